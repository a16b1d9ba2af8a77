"""What is shown and written of a flight, whatever flies it."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

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


def write_json(result: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Write the numbers of a flight to the folder of results, and to the file of --json."""
    text = json.dumps(result, indent=2, allow_nan=False) + '\n'
    for file in filter(None, (arguments.out / 'flight.json', arguments.json)):
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
