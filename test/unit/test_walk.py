"""The walk through the code names files and things that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/explanation/walk.md').read_text()
# A file in backquotes, and the names in backquotes that follow it at once.
NAMED = re.findall(r'`([a-z_]+/[a-z_/]+\.py)`((?:\s+`\w+`)*)', PAGE)


@pytest.mark.parametrize(('file', 'names'), NAMED, ids=[file for file, _ in NAMED])
def test_every_file_and_every_name_in_it_exists(file, names):
    path = ROOT / file if file.startswith('test/') else ROOT / 'hmpc_ros' / file
    text = path.read_text()
    for name in re.findall(r'`(\w+)`', names):
        assert re.search(rf'^(class|def) {name}\b|^{name}\b', text, re.MULTILINE), f'{file}: {name}'


def test_the_walk_names_what_it_walks_past():
    assert len(NAMED) > 20
