"""``hmpc train``: tune the MPC's weights on the simulated vehicle, without ROS."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hmpc_ros.cli.options import MOST_JOBS, add_run, address, count, read_run, refuse_to_mix
from hmpc_ros.configuration import learner
from hmpc_ros.learning.parallel import workers
from hmpc_ros.learning.results import HEADER, number, read_records
from hmpc_ros.learning.summary import best_record, summarise

if TYPE_CHECKING:
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.training import TrainingRun

DESCRIPTION = """\
Tune the weights of the MPC on the simulated vehicle, without ROS.

One iteration flies the vehicle once under the present weights and as often under perturbed weights
as the estimator asks for, estimates how the closed-loop cost changes with the weights, and takes a
step. Every finished iteration is kept in the results folder at once: after Ctrl-C or a crash,
--resume goes on with the same numbers as a run that was never stopped.
"""
EXAMPLES = """\
examples:
  hmpc train --out build/hybrid
  hmpc train --set learner.estimator=model_based --iterations 50 --out build/model
  hmpc train --resume --out build/hybrid --iterations 400
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_run(parser, 'results/training')
    parser.add_argument(
        '--jobs',
        metavar='N',
        type=count(MOST_JOBS),
        default=1,
        help='processes that fly what is due at the same time (default: 1); same results',
    )
    parser.add_argument(
        '--dask',
        metavar='ADDRESS',
        type=address,
        default='',
        help='fly on the workers of this Dask scheduler',
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; return 0, 1 when the run diverged, 130 after Ctrl-C."""
    console = Console(stderr=True, highlight=False)
    configuration = read_run(arguments)
    out: Path = arguments.out
    refuse_to_mix(out, arguments.resume)
    for warning in learner.warnings(configuration['learner']):
        console.print(f'[yellow]warning:[/] {warning}')
    exit_code, stopped = 0, ''
    try:
        with workers(arguments.jobs, arguments.dask) as executor, _ProgressBar(console) as bar:
            finished = learner.train_offline(
                configuration, out, bar.start, bar.update, executor
            )
            stopped = finished.stopped
    except KeyboardInterrupt:
        exit_code = 130
    if not (out / HEADER).exists():  # interrupted while the solver was built
        return exit_code
    header, records = read_records(out)
    summary = summarise(header, records)
    if stopped:
        exit_code = 1
        console.print(f'[red]the run diverged:[/] {stopped}')
    _report(console, summary, out, interrupted=exit_code == 130)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    return exit_code


class _ProgressBar:
    """Iterations with cost, violation, lowest cost so far and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn('iteration'),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn(
                'C {task.fields[shown][C]:.2f}  V {task.fields[shown][V]:.4f}  '
                'J {task.fields[shown][J]:.2f}'
            ),
            TextColumn('best {task.fields[best]:.2f}'),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def start(self, training: TrainingRun) -> None:
        """Begin to show a run, which may have iterations behind it."""
        records = training.results.records
        best = best_record(records)
        self._best = number(best['J']) if best else math.inf
        self._task = self._progress.add_task(
            '',
            total=training.total,
            completed=training.k,
            shown=_costs(records[-1]) if records else dict.fromkeys('CVJ', math.nan),
            best=self._best,
        )
        self._progress.start()

    def update(self, training: TrainingRun, record: Record) -> None:
        """Show a finished iteration."""
        costs = _costs(record)
        self._best = min(self._best, costs['J'])
        self._progress.update(self._task, completed=training.k, best=self._best, shown=costs)


def _costs(record: Record) -> dict[str, float]:
    return {name: number(record[name]) for name in 'CVJ'}


def _report(console: Console, summary: dict[str, Any], out: Path, interrupted: bool) -> None:
    for name in ('start', 'final', 'best'):
        if summary[name]:
            costs = '  '.join(f'{key} = {v:.4f}' for key, v in _costs(summary[name]).items())
            console.print(f'{name:>6}: {costs}')
    state = 'stopped' if interrupted else 'done'
    console.print(
        f'{state} after {summary["iterations"]} iterations, {summary["flights"]} flights; '
        f'results in {out}' + (' (go on with --resume)' if interrupted else '')
    )
