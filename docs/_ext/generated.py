"""What the reference pages do not repeat: parameters, commands and modules, from the code itself.

A page names what it wants in a comment of its own line, and gets Markdown in its place::

    <!-- parameters -->      every parameter of every node, from the declarations
    <!-- commands -->        every command's help, from its parser
    <!-- modules policy -->  the docstrings of a room, module by module
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import re
from importlib import import_module

from sphinx.application import Sphinx

from hmpc_ros.cli.main import COMMANDS, make_parser
from hmpc_ros.configuration.schema import Parameter
from hmpc_ros.configuration.tables import TABLES

WIDTH = '88'  # of the commands' help
MARK = re.compile(r'^<!-- (\w+)(.*) -->$', re.MULTILINE)


def parameters() -> str:
    """Return a table for each node: name, default, range, meaning."""
    parts = []
    for node, declared in TABLES.items():
        rows = '\n'.join(_row(parameter) for parameter in declared.values())
        parts.append(
            f'## {node}\n\n| parameter | default | allowed | |\n|---|---|---|---|\n{rows}\n'
        )
    return '\n'.join(parts)


def _row(parameter: Parameter) -> str:
    default = parameter.default
    if isinstance(default, list) and len(default) > 6 and len(set(default)) > 1:
        default = f'{str(default[:4])[:-1]}, ...]'
    elif isinstance(default, list) and len(default) > 6:
        default = f'[{default[0]}] * {len(default)}'
    meaning = parameter.description.replace('|', r'\|').replace('*', r'\*').replace('<', '&lt;')
    when = '' if parameter.read_only else ' *May change while the node runs.*'
    return f'| `{parameter.name}` | {_code(default)} | {_allowed(parameter)} | {meaning}.{when} |'


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'`{text}`' if text else ''


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ', '.join(map(_code, parameter.choices))
    low, high = parameter.lower, parameter.upper
    words = []
    if low is not None and high is not None:
        words.append(f'{low:g} .. {high:g}')
    elif low is not None:
        words.append(f'>= {low:g}')
    elif high is not None:
        words.append(f'<= {high:g}')
    if parameter.unit:
        words.append(parameter.unit)
    if parameter.length is not None:
        words.append(f'({parameter.length} values)')
    return ' '.join(words).replace('|', r'\|')


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return a command's own parser."""
    for action in make_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices[command]
    raise LookupError(command)


def commands() -> str:
    """Return the help of every command."""
    os.environ['COLUMNS'] = WIDTH
    return '\n'.join(
        f'## hmpc {name}\n\n```text\n{parser_of(name).format_help()}```\n' for name in COMMANDS
    )


def modules(room: str) -> str:
    """Return the docstrings of a room's modules."""
    package = import_module(f'hmpc_ros.{room}')
    names = [each.name for each in pkgutil.walk_packages(package.__path__, f'{package.__name__}.')]
    return '\n'.join(
        f'## {name.removeprefix("hmpc_ros.")}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n'
        for name in names
    )


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    makers = {'parameters': parameters, 'commands': commands, 'modules': modules}

    def make(match: re.Match[str]) -> str:
        return makers[match[1]](*match[2].split())

    source[0] = MARK.sub(make, source[0])


def _generated(app: Sphinx, *_: object) -> list[str]:
    """Return the pages to be made anew although their own text has not changed."""
    return [
        name
        for name in app.env.found_docs
        if MARK.search(app.env.doc2path(name).read_text(encoding='utf-8'))
    ]


def _as_written(_app: Sphinx, _kind: str, _name: str, _object: object, _options: object,
                lines: list[str]) -> None:  # fmt: skip
    """Show formulas of docstrings, which are indented, as they stand, and |x| in text as |x|."""
    shown: list[str] = []
    literal = False
    for i, line in enumerate(lines):
        indented = line.startswith('    ')
        if line and not indented:
            literal = False
            if not line.startswith('>>>'):
                line = _escaped(line)
        elif indented and i and not lines[i - 1] and not literal:
            above = next((each for each in reversed(lines[: i - 1]) if each), '')
            literal = bool(above) and not above.startswith(' ')
            if literal and not above.endswith('::'):
                shown += ['::', '']
        elif indented and not literal:
            line = _escaped(line)
        shown.append(line)
    lines[:] = shown


def _escaped(line: str) -> str:
    """Return a line of text in which only what is in backquotes or between stars is markup."""
    parts = re.split(r'(`+[^`]*`+)', line)
    markup = re.compile(r'\||(?<=\w)_(?!\w)|\*(?=\w)(?![^*]*\*)')
    parts[::2] = [markup.sub(r'\\\g<0>', part) for part in parts[::2]]
    return ''.join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect('source-read', _fill)
    app.connect('env-get-outdated', _generated)
    app.connect('autodoc-process-docstring', _as_written, priority=400)  # before napoleon
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
