"""The walks through the code, and the way to an MPC of one's own, name what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ('docs/explanation/walk.md', 'docs/howto/mpc.md')
# A file in backquotes, and the names in backquotes that follow it at once.
NAMED = [
    found
    for page in PAGES
    for found in re.findall(
        r'`([a-z_]+/[a-z_/]+\.py)`((?:(?: and)?\s+`\w+`)*)', (ROOT / page).read_text()
    )
]


@pytest.mark.parametrize(('file', 'names'), NAMED, ids=[file for file, _ in NAMED])
def test_every_file_and_every_name_in_it_exists(file, names):
    path = ROOT / file if file.startswith('test/') else ROOT / 'hmpc_ros' / file
    text = path.read_text()
    for name in re.findall(r'`(\w+)`', names):
        assert re.search(rf'^(class|def) {name}\b|^{name}\b', text, re.MULTILINE), f'{file}: {name}'


def test_the_pages_name_what_they_walk_past():
    assert len(NAMED) > 40
