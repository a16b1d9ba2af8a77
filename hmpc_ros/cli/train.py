"""``hmpc train``: tune the MPC's weights on the simulated vehicle, without ROS."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hmpc_ros.configuration import files, learner
from hmpc_ros.learning.results import HEADER, ResultsError, ResultsFolder, number, read_header
from hmpc_ros.learning.summary import best_record, summarise
from hmpc_ros.learning.training import TrainingRun

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration

HELP = "tune the MPC's weights flight by flight, without ROS"
DESCRIPTION = """\
Tune the weights of the MPC on the simulated vehicle, without ROS.

One iteration flies the vehicle once under the present weights and as often under perturbed weights
as the estimator asks for, estimates how the closed-loop cost changes with the weights, and takes a
step. Every finished iteration is kept in the results folder at once: after Ctrl-C or a crash,
--resume goes on with the same numbers as a run that was never stopped.
"""
EXAMPLES = """\
examples:
  hmpc train --config config/reference.yaml --out results/hybrid
  hmpc train --set learner.estimator=model_based --iterations 50 --out results/model
  hmpc train --resume --out results/hybrid --iterations 400
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--config', metavar='FILE', type=Path, help='ROS 2 parameter file')
    parser.add_argument(
        '--set',
        metavar='NODE.PARAM=VALUE',
        action='append',
        default=[],
        help='override one value, e.g. learner.trust.exponent=0.75; may be repeated',
    )
    parser.add_argument('--iterations', metavar='N', type=int, help='iterations in total')
    parser.add_argument('--seed', metavar='N', type=int, help='seed of the random directions')
    parser.add_argument(
        '--out', metavar='DIR', type=Path, default=Path('results/train'), help='results folder'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on with the run in the results folder'
    )
    parser.add_argument('--json', metavar='FILE', type=Path, help='write the summary to a file')


def run(arguments: argparse.Namespace) -> int:
    """Train; return 0, 1 when the run diverged, 2 for a wrong request, 130 after Ctrl-C."""
    console = Console(stderr=True)
    try:
        configuration = configuration_of(arguments)
        exit_code, summary = train(configuration, arguments.out, arguments.resume, console)
    except (ValueError, ResultsError, ImportError) as error:
        print(f'hmpc train: {error}', file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    return exit_code


def configuration_of(arguments: argparse.Namespace) -> Configuration:
    """Read what is to be run: from the files and options, or from the folder that is resumed.

    Raises:
        ValueError: a value is refused.
        ResultsError: the folder holds no run, or is damaged.
    """
    overrides = list(arguments.set)
    for name in ('iterations', 'seed'):
        if getattr(arguments, name) is not None:
            overrides.append(f'learner.{name}={getattr(arguments, name)}')
    resumed = arguments.resume and (arguments.out / HEADER).exists()
    if resumed and arguments.config is None:
        return files.from_values(read_header(arguments.out)['configuration'], overrides)
    return files.load(arguments.config, overrides)


def train(
    configuration: Configuration, out: Path, resume: bool, console: Console
) -> tuple[int, dict[str, Any]]:
    """Run the training of a configuration into a results folder, with a progress bar.

    Returns:
        The exit code and the summary of the run.

    Raises:
        ValueError: the configuration contradicts itself, or the run that is resumed.
        ResultsError: the folder is in use, damaged, or holds a run that was not to be resumed.
    """
    if not resume and (out / HEADER).exists():
        raise ValueError(
            f'{out} holds a training run already: go on with it by --resume, or choose another '
            '--out'
        )
    settings = configuration['learner']
    for warning in learner.warnings(settings):
        console.print(f'[yellow]warning:[/] {warning}', highlight=False)
    training = learner.offline_training(configuration)
    header = learner.header(configuration, training)
    with ResultsFolder(out, header) as results:
        results.refuse_another_run(header)
        training_run = TrainingRun(
            training.rule,
            training.objective,
            training.theta,
            results,
            iterations=settings['iterations'],
            seed=settings['seed'],
        )
        exit_code = 0
        try:
            _fly_all(training_run, training, console)
        except KeyboardInterrupt:
            exit_code = 130
        summary = summarise(results.header, results.records)
    if training_run.stopped:
        exit_code = 1
        console.print(f'[red]the run diverged:[/] {training_run.stopped}', highlight=False)
    _report(console, summary, out, interrupted=exit_code == 130)
    return exit_code, summary


def _fly_all(
    training_run: TrainingRun, training: learner.OfflineTraining, console: Console
) -> None:
    columns = (
        TextColumn('iteration'),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn('C {task.fields[C]:.2f}  V {task.fields[V]:.4f}  J {task.fields[J]:.2f}'),
        TextColumn('best {task.fields[best]:.2f}'),
        TimeRemainingColumn(),
    )
    nan = float('nan')
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(
            'train',
            total=training_run.total,
            completed=training_run.k,
            C=nan,
            V=nan,
            J=nan,
            best=nan,
        )
        best = best_record(training_run.results.records)
        lowest = number(best['J']) if best else float('inf')
        while (request := training_run.next_request()) is not None:
            record = training_run.report(request, training.fly(request))
            if record is not None:
                C, V, J = (number(record[name]) for name in 'CVJ')
                lowest = min(lowest, J)
                progress.update(bar, completed=training_run.k, C=C, V=V, J=J, best=lowest)


def _report(console: Console, summary: dict[str, Any], out: Path, interrupted: bool) -> None:
    if summary['start'] is not None:
        for name in ('start', 'final', 'best'):
            costs = {key: number(summary[name][key]) for key in 'CVJ'} if summary[name] else {}
            if costs:
                text = '  '.join(f'{key} = {value:.4f}' for key, value in costs.items())
                console.print(f'{name:>6}: {text}', highlight=False)
    state = 'stopped' if interrupted else 'done'
    console.print(
        f'{state} after {summary["iterations"]} iterations, {summary["flights"]} flights; '
        f'results in {out}' + (' (go on with --resume)' if interrupted else ''),
        highlight=False,
    )
