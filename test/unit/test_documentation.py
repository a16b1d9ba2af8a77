"""What the pages show: every command line parses, every file, parameter and target exists."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import yaml

from hmpc_ros.cli.main import COMMANDS, make_parser
from hmpc_ros.configuration.files import addressed
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.ros.graph import find_config

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
#: Parameter files that a page has its reader write.
READERS_OWN = {'my_vehicle.yaml', 'mine.yaml'}


def shown(text: str, program: str) -> list[list[str]]:
    """Return the words of each command line of a program: in code blocks, and between backquotes.

    Inline, a name alone (``hmpc learn``) is a line as well.
    """
    blocks = re.findall(r'^ *```\w*\n(.*?)^ *```', text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r'^ *```.*?^ *```', '', text, flags=re.MULTILINE | re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    lines += [' '.join(line.split()) for line in re.findall(r'`([^`]+)`', prose)]
    starts = re.compile(rf'(?:[\w.]+/bin/|ros2 run hmpc_ros )?{program}(?: (.*))?')
    matches = [match for line in lines if (match := starts.fullmatch(line.strip()))]
    return [shlex.split(match[1] or '', comments=True) for match in matches]


def lines_of(program: str) -> list:
    return [
        pytest.param(words, id=f'{page.relative_to(ROOT)}: {program} {" ".join(words)}')
        for page in PAGES
        for words in shown(page.read_text(encoding='utf-8'), program)
    ]


def test_command_lines_are_found_in_blocks_and_between_backquotes():
    text = 'Say `hmpc plot a`:\n```sh\nhmpc fly --set \\\n  a.b="[1, 2]"  # why\nx\n```\n`hmpcx`'
    assert shown(text, 'hmpc') == [['fly', '--set', 'a.b=[1, 2]'], ['plot', 'a']]
    assert len(lines_of('hmpc')) > 40
    assert len(lines_of('make')) > 10


@pytest.mark.parametrize('words', lines_of('hmpc'))
def test_every_command_that_is_shown_parses(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # folders that are named need not exist
    words = [word for word in words if word not in ('...', '--help')]
    if words in ([], ['COMMAND']):
        return
    assert words[0] in COMMANDS
    if len(words) == 1:  # spoken of, not called
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = make_parser(words[0]).parse_args(words)
    except SystemExit:
        pytest.fail(said.getvalue())
    config = getattr(arguments, 'config', None)
    if config is not None and config not in READERS_OWN:
        assert find_config(config).is_file()
    for override in getattr(arguments, 'overrides', []):
        key, _, value = override.partition('=')
        node, name = addressed(key)
        declared = [TABLES[each].get(name) for each in TABLES if node in (each, '**')]
        assert any(declared), f'there is no parameter {key}'
        next(filter(None, declared)).validate(yaml.safe_load(value))


@pytest.mark.parametrize('words', lines_of('make'))
def test_every_target_that_is_shown_exists(words: list[str]):
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    wanted = {word for word in words if re.fullmatch(r'[a-z-]+', word)}
    assert wanted <= targets


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_launch_file_of_a_page_exists(page: Path):
    text = page.read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        assert '://' in target or (page.parent / target).exists(), target
    everywhere = (ROOT / 'hmpc_ros' / 'ros' / 'launching.py').read_text()
    for line in re.findall(r'ros2 launch hmpc_ros (\S.*)', text):
        launched = (ROOT / 'launch' / re.split('[ `]', line)[0]).read_text()
        for argument in re.findall(r'(\w+):=', line):
            assert f"'{argument}'" in launched + everywhere, line


def test_the_readme_is_short_and_every_page_is_in_the_site():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150
    entries = re.findall(r'^[\w/]+$', (ROOT / 'docs' / 'index.md').read_text(), re.MULTILINE)
    pages = {str(page.relative_to(ROOT / 'docs')) for page in (ROOT / 'docs').rglob('*.md')}
    assert {f'{entry}.md' for entry in entries} == pages - {'index.md'}


def test_the_readme_has_the_benchmark_s_own_figures():
    pages = [ROOT / 'docs' / 'results' / f'{name}.md' for name in ('benchmark', 'default_rule')]
    measured = '\n'.join(page.read_text(encoding='utf-8') for page in pages)
    rows = re.findall(r'^\|.*', (ROOT / 'README.md').read_text(encoding='utf-8'), re.MULTILINE)
    figures = re.findall(r'\d{4}\.\d', '\n'.join(rows))
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in measured] == []
