"""``hmpc train``: tune the MPC's weights on the simulated vehicle, without ROS."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hmpc_ros.cli.options import MOST_JOBS, add_run, address, count, read_run, refuse_to_mix
from hmpc_ros.cli.report import write_json
from hmpc_ros.configuration import learner, tracking_learner
from hmpc_ros.learning.parallel import workers
from hmpc_ros.learning.results import HEADER, number, read_records
from hmpc_ros.learning.summary import best_record, summarise

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
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
  hmpc train --config tracking --flights 3 --set simulator.mass_scale=1.2 --out build/eight
  hmpc train --resume --out build/hybrid --iterations 400
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_run(parser, 'results/training')
    parser.add_argument(
        '--jobs', metavar='N', type=count(MOST_JOBS), default=1,
        help='processes that fly what is due at the same time (default: 1); same results',
    )  # fmt: skip
    parser.add_argument(
        '--dask', metavar='ADDRESS', type=address, default='',
        help='fly on the workers of this Dask scheduler',
    )  # fmt: skip


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
        with ProgressBar(console) as bar:
            stopped = _train(arguments, configuration, bar).stopped
    except KeyboardInterrupt:
        exit_code = 130
    return tell(arguments, console, stopped, exit_code, configuration)


def tell(
    arguments: argparse.Namespace,
    console: Console,
    stopped: str,
    exit_code: int,
    configuration: Configuration | None = None,
) -> int:
    """Say what a run came to, and write its summary; return the exit code.

    ``stopped`` says why the run cannot go on; the configuration may ask for held-out paths.
    """
    out: Path = arguments.out
    if not (out / HEADER).exists():  # interrupted while the solver was built
        return exit_code
    header, records = read_records(out)
    summary = summarise(header, records)
    if configuration and configuration['learner']['heldout'] and exit_code != 130:
        console.print('flying held-out paths ...')
        summary['heldout'] = tracking_learner.heldout_of(configuration, header, records)
        for name, found in summary['heldout'].items():
            before, after = (1e3 * number(found[key]) for key in ('before_m', 'after_m'))
            console.print(f'  {name}: RMSE {before:.2f} mm before, {after:.2f} mm after')
    if stopped:
        exit_code = 1
        console.print(f'[red]the run diverged:[/] {stopped}')
    _report(console, summary, out, interrupted=exit_code == 130)
    write_json(summary, arguments.json)
    return exit_code


def _train(
    arguments: argparse.Namespace, configuration: Configuration, bar: ProgressBar
) -> TrainingRun:
    if configuration['controller']['policy.kind'] == 'tracking':
        if arguments.dask:
            raise ValueError('the tracking MPC learns on this machine: leave out --dask')
        jobs = arguments.jobs if arguments.jobs > 1 else rehearsing()
        return tracking_learner.train_offline(
            configuration, arguments.out, bar.start, bar.update, jobs
        )
    with workers(arguments.jobs, arguments.dask) as executor:
        return learner.train_offline(configuration, arguments.out, bar.start, bar.update, executor)


def rehearsing() -> int:
    """Return how many processes rehearse where nobody says: one per core, two at most."""
    return min(2, os.cpu_count() or 1)


class ProgressBar:
    """Iterations with cost, violation, lowest cost so far and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn('iteration'),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn('{task.fields[shown]}'),
            TextColumn('{task.fields[best]}'),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def start(self, training: TrainingRun) -> None:
        """Begin to show a run, which may have iterations behind it."""
        records = training.results.records
        self._task = self._progress.add_task(
            '',
            total=training.total,
            completed=training.k,
            shown=_text(records[-1]) if records else '',
            best=_best(records),
        )
        self._progress.start()

    def update(self, training: TrainingRun, record: Record) -> None:
        """Show a finished iteration."""
        self._progress.update(
            self._task,
            completed=training.k,
            best=_best(training.results.records),
            shown=_text(record),
        )


def _best(records: list[Record]) -> str:
    best = best_record(records)
    return 'best ' + _text(best) if best else ''


def _text(record: Record) -> str:
    """Put a record into a few words: what people look at first."""
    if 'rmse_m' in record:
        rmse, largest = (1e3 * number(record[name]) for name in ('rmse_m', 'max_m'))
        return f'RMSE {rmse:.2f} mm, largest {largest:.2f} mm'
    return '  '.join(f'{name} {number(record[name]):.4f}' for name in 'CVJ')


def tell_identified(console: Console, summary: dict[str, Any]) -> None:
    """Print what was identified of the vehicle, if anything."""
    for name, found in (summary['identified'] or {}).items():
        said = f'{found["estimate"]:.4g} +- {found["standard_error"]:.2g}'
        console.print(f'  {name}: {said if found["told"] else "as assumed: no flight tells"}')


def _report(console: Console, summary: dict[str, Any], out: Path, interrupted: bool) -> None:
    for name in ('start', 'final', 'best'):
        if summary[name]:
            console.print(f'{name:>6}: {_text(summary[name])}')
    tell_identified(console, summary)
    state = 'stopped' if interrupted else 'done'
    console.print(
        f'{state} after {summary["iterations"]} iterations, {summary["flights"]} flights; '
        f'results in {out}' + (' (go on with --resume)' if interrupted else '')
    )
