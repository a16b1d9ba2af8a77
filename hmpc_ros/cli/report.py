"""What is shown and written of a flight or a run, whatever flies it."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from hmpc_ros.configuration.files import Configuration
from hmpc_ros.configuration.provenance import provenance


@contextlib.contextmanager
def flight_progress(console: Console, steps: int) -> Iterator[Any]:
    """Show a progress bar while flying; yields ``progress(stage, step)``."""
    columns = (
        SpinnerColumn(),
        TextColumn('{task.description:<22}'),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn('steps'),
    )
    # In a log file a bar would only leave empty lines.
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task('starting', total=steps)
        yield lambda stage, step: bar.update(task, description=stage, completed=step)


def columns(*names: str) -> Table:
    """Return a table without lines: the first column to the left, numbers to the right."""
    table = Table(box=None, header_style='bold', pad_edge=False, padding=(0, 3, 0, 0))
    for i, name in enumerate(names):
        table.add_column(name, justify='right' if i else 'left')
    return table


def change(before: float, after: float) -> str:
    """Return by how much a number changed, in percent; nothing where it was 0."""
    return f'{100 * (after / before - 1):+.2f} %' if before else ''


def write_json(result: Mapping[str, Any], *files: Path | None, allow_nan: bool = True) -> None:
    """Write what came of a command to each of the files that is given.

    Raises:
        ValueError: a number is not finite, and ``allow_nan`` is not set.
    """
    text = json.dumps(result, indent=2, allow_nan=allow_nan) + '\n'
    for file in filter(None, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')


def what_was_run(
    arguments: argparse.Namespace, path: Path, configuration: Configuration
) -> dict[str, Any]:
    """Return what makes a flight repeatable: configuration, overrides, versions."""
    objective = {
        name: value
        for name, value in configuration['learner'].items()
        if name.startswith('objective.')
    }
    return {
        'mode': 'offline' if arguments.offline else 'ros',
        'seed': configuration['simulator']['seed'],
        'config_file': str(path),
        'overrides': list(arguments.overrides),
        'configuration': {
            'simulator': configuration['simulator'],
            'controller': configuration['controller'],
            'learner': objective,
        },
        **provenance(),
    }
