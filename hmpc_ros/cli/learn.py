"""``hmpc learn``: the vehicle tunes its own MPC over ROS 2."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from hmpc_ros.cli.live import duration, view
from hmpc_ros.cli.options import (
    add_run,
    add_vehicle,
    read_run,
    reader,
    refuse_to_fly,
    refuse_to_mismatch,
    refuse_to_mix,
    take_url,
)
from hmpc_ros.cli.report import change, columns, write_json
from hmpc_ros.cli.train import ProgressBar, rehearsing, tell, tell_identified
from hmpc_ros.configuration import learner
from hmpc_ros.configuration.weights_file import BEST_WEIGHTS_FILE
from hmpc_ros.learning.results import HEADER, number, read_records
from hmpc_ros.learning.summary import summarise
from hmpc_ros.studies.learning import REFRESH, SilentLearnerError, learn, timing
from hmpc_ros.studies.vehicle import learn_on_vehicle

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.ros.monitor import Monitor
    from hmpc_ros.ros.runner import LocalRunner

DESCRIPTION = """\
Let the vehicle tune its own MPC over ROS 2, flight by flight.

Starts simulator, controller and learner, each a process of its own, and shows how learning goes.
With --attach only the learner is started, beside a controller and a vehicle that run already.

Every finished iteration is kept in the results folder at once: after Ctrl-C or a crash, --resume
goes on with the same numbers. The folder is of the same format as that of hmpc train; hmpc plot
draws it. The weights that were accepted last, and the best ones, are in it as ROS parameter files
for the controller's parameter weights_file.
"""
EXAMPLES = """\
examples:
  hmpc learn --out results/learning
  hmpc learn --resume --out results/learning --iterations 400
  hmpc learn --config tracking --flights 3 --set simulator.mass_scale=1.2 --out results/eight
  hmpc learn --vehicle mavlink --config mine.yaml --flights 3 --out results/monday
  hmpc learn --attach --set learner.reset=fly --set learner.goal.position="[2, 0, 1.5]"
  hmpc fly --set controller.weights_file=results/learning/best_weights.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_run(parser, 'results/learning')
    add_vehicle(parser)
    parser.add_argument(
        '--attach', action='store_true',
        help='start the learner only, beside nodes that run already in this ROS_DOMAIN_ID',
    )  # fmt: skip
    parser.add_argument(
        '--record', action='store_true', help='record the topics to an MCAP file in the folder'
    )
    parser.add_argument('--rviz', action='store_true', help='watch in RViz (needs rviz2)')
    parser.add_argument('--verbose', action='store_true', help="show the nodes' output")


def run(arguments: argparse.Namespace) -> int:
    """Learn; return 0, 1 when learning stopped before its end, 130 after Ctrl-C."""
    out: Path = arguments.out
    refuse_to_mix(out, arguments.resume)
    console = Console(highlight=False)
    if arguments.attach:
        for override in arguments.overrides:
            if not override.strip().startswith('learner.'):
                raise ValueError(
                    f'--set {override}: with --attach only the learner is started; change other '
                    'nodes where they run'
                )
    take_url(arguments)
    if arguments.vehicle and arguments.config is None and not arguments.resume:
        arguments.config = 'autopilot'
    configuration = read_run(arguments)
    if arguments.vehicle:
        refuse_to_fly(configuration)
        if arguments.config is None:
            raise ValueError('--vehicle needs --config with --resume: the folder keeps no adapter')
        return _learn_on_vehicle(arguments, configuration)
    if not arguments.attach:
        refuse_to_mismatch(configuration)
    exit_code = learn_in_view(
        configuration,
        out,
        console,
        attach=arguments.attach,
        record=arguments.record,
        rviz=arguments.rviz,
        verbose=arguments.verbose,
    )
    if not (out / HEADER).exists():
        return exit_code or 1
    header, records = read_records(out)
    summary = summarise(header, records)
    summary['timing'] = timing(out)
    report(console, summary, out, stopped=exit_code != 0)
    write_json(summary, arguments.json)
    return exit_code


def _learn_on_vehicle(arguments: argparse.Namespace, configuration: Configuration) -> int:
    """Learn along a reference; return 0, 1 when the run diverged, 130 after Ctrl-C."""
    for name in ('attach', 'record', 'rviz'):
        if getattr(arguments, name):
            raise ValueError(f'--{name} is not there with --vehicle: leave it out')
    console = Console(stderr=True, highlight=False)
    stopped, exit_code = '', 0
    try:
        with ProgressBar(console) as bar:
            stopped = learn_on_vehicle(
                configuration, f'{arguments.vehicle}_adapter', arguments.out, say=console.print,
                patience=arguments.patience, reader=reader(arguments.verbose), on_start=bar.start,
                on_record=lambda _fly, run, record: bar.update(run, record), jobs=rehearsing(),
            ).stopped  # fmt: skip
    except KeyboardInterrupt:
        exit_code = 130
    exit_code = tell(arguments, console, stopped, exit_code)
    best = arguments.out / BEST_WEIGHTS_FILE
    if best.exists():
        console.print(
            f'fly the best weights: hmpc fly --vehicle {arguments.vehicle} --set '
            f'controller.weights_file={best}', soft_wrap=True,
        )  # fmt: skip
    return exit_code


def learn_in_view(
    configuration: Configuration, out: Path, console: Console, *, verbose: bool, **how: bool
) -> int:
    """Learn, and show how it goes; return the exit code. What is learned ``how``: see `learn`."""
    for warning in learner.warnings(configuration['learner']):
        console.print(f'[yellow]warning:[/] {warning}')
    try:
        with Live(console=console, refresh_per_second=1 / REFRESH, transient=False) as live:
            live.update('starting the nodes')

            def show(monitor: Monitor, _runner: LocalRunner) -> None:
                if monitor.progress is not None:
                    live.update(view(monitor.progress, monitor.history))

            progress = learn(configuration, out, reader=reader(verbose), on_news=show, **how)
    except SilentLearnerError as error:
        console.print(f'[red]{error}[/]')
        return 1
    except KeyboardInterrupt:
        console.print('stopped; go on with --resume')
        return 130
    if not console.is_terminal:
        console.print()
    if progress.state == 'stopped':
        console.print(f'[red]learning stopped:[/] {progress.message.removeprefix("stopped: ")}')
        return 1
    return 0


_ROWS = (
    ('rmse_m', 'RMSE of the position [m]'),
    ('max_m', 'largest error [m]'),
    ('C', 'tracking cost C'),
    ('V', 'violation V'),
    ('J', 'objective J'),
)


def report(console: Console, summary: dict[str, Any], out: Path, *, stopped: bool) -> None:
    """Print before, after and the totals."""
    start, best = summary['start'], summary['best']
    if start is None or best is None:
        console.print('no iteration was finished')
        return
    table = columns('', 'before', 'best', 'change')
    for name, meaning in _ROWS:
        if name in start:
            before, after = number(start[name]), number(best[name])
            table.add_row(meaning, f'{before:.8g}', f'{after:.8g}', change(before, after))
    console.print(table)
    tell_identified(console, summary)
    seconds = summary['seconds_per_iteration']
    console.print(
        f'{summary["iterations"]} iterations, {summary["flights"]} flights, '
        f'{summary["rolled_back"]} rolled back, {summary["unsafe_flights"]} cut short, '
        f'{seconds:.2f} s per iteration ({duration(seconds * summary["iterations"])} in all)'
    )
    split = summary.get('timing')
    if split:
        parts = [f'{name} {split[name]:.2f} s' for name in split if name != 'total']
        console.print(f'of an iteration: {", ".join(parts)}')
    seed = summary['configuration']['learner']['seed']
    console.print(f'seed {seed}; results in {out}' + (' (go on with --resume)' if stopped else ''))
    best_file = out / BEST_WEIGHTS_FILE
    with contextlib.suppress(OSError):
        if best_file.exists():
            console.print(
                f'fly the best weights: hmpc fly --set controller.weights_file={best_file}'
            )
