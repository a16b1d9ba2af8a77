"""``hmpc demo``: a flight, a short learning run, and the flight again under what was learned."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hmpc_ros.cli import demo_tracking
from hmpc_ros.cli.learn import learn_in_view
from hmpc_ros.cli.live import duration
from hmpc_ros.cli.options import (
    add_configuration,
    output_folder,
    read_run,
    reader,
    refuse_to_mismatch,
)
from hmpc_ros.cli.report import change, columns, write_json
from hmpc_ros.configuration import build, learner
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.weights_file import BEST_WEIGHTS_FILE
from hmpc_ros.figures.demonstration import draw_before_and_after
from hmpc_ros.learning.results import HEADER, read_records
from hmpc_ros.learning.summary import best_record, summarise
from hmpc_ros.ros.runner import reserve_domain
from hmpc_ros.studies.flying import fly_over_ros

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration

DESCRIPTION = """\
Fly, learn for a few flights, and fly again with the best that was found: all flights over ROS 2,
with real node processes. Ends with a picture and tables, before and after.

By default a vehicle that is heavier than its controller knows tracks an eight. The reference
experiment is --config demo_paper.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = DESCRIPTION
    add_configuration(parser)
    parser.set_defaults(config='demo')
    parser.set_defaults(flights=None)
    parser.add_argument('--iterations', metavar='N', type=int, help='iterations of learning')
    parser.add_argument('--seed', metavar='N', type=int, help='seed of the random directions')
    parser.add_argument(
        '--out', metavar='DIR', type=output_folder, default='build/demo',
        help='folder of picture, numbers and results (default: build/demo)',
    )  # fmt: skip
    parser.add_argument('--record', action='store_true', help='record the topics to an MCAP file')
    parser.add_argument('--verbose', action='store_true', help="show the nodes' output")


def run(arguments: argparse.Namespace) -> int:
    """Fly, learn, fly again; return 0 when the flight became better."""
    console = Console(highlight=False)
    configuration = read_run(arguments)
    refuse_to_mismatch(configuration)
    with _one_domain():
        console.print(
            'watch it live: [bold]ROS_DOMAIN_ID='
            f'{os.environ["ROS_DOMAIN_ID"]} {Path(sys.argv[0])} watch --web[/] in another '
            'terminal, then http://127.0.0.1:8080',
            soft_wrap=True,
        )
        return _run(arguments, configuration, console)


@contextlib.contextmanager
def _one_domain() -> Iterator[None]:
    """Fly everything in one ROS domain, so that it can be told beforehand where to look."""
    if os.environ.get('ROS_DOMAIN_ID'):
        yield
        return
    number, lock = reserve_domain()
    os.environ['ROS_DOMAIN_ID'] = str(number)
    try:
        yield
    finally:
        del os.environ['ROS_DOMAIN_ID']
        lock.close()


def _run(arguments: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    began = time.monotonic()
    out: Path = arguments.out
    results = out / 'learning'
    if configuration['controller']['policy.kind'] == 'tracking':
        return demo_tracking.run(arguments, configuration)
    if (results / HEADER).exists():  # of the last demonstration
        shutil.rmtree(results)
    steps = int(configuration['learner']['steps'])

    console.print(f'[bold]1  the flight before[/]  {steps} steps, over ROS 2 in lockstep')
    output = reader(arguments.verbose)
    before = fly_over_ros(configuration, steps, reader=output)
    console.print('[bold]2  learning[/]  the vehicle tunes its own MPC')
    exit_code = learn_in_view(
        configuration, results, console, verbose=arguments.verbose, record=arguments.record
    )
    if exit_code:
        return exit_code
    console.print('[bold]3  the flight after[/]  under the best weights that were found')
    best_weights = results / BEST_WEIGHTS_FILE
    learned = read_run(arguments, f'controller.weights_file={json.dumps(str(best_weights))}')
    after = fly_over_ros(learned, steps, reader=output)

    header, records = read_records(results)
    controller = configuration['controller']
    limits = build.limits(controller)
    objective = learner.objective(configuration['learner'], limits)
    costs = {'before': objective.cost(before.flight), 'after': objective.cost(after.flight)}
    seed = header['seed']
    summary = summarise(header, records)
    picture = draw_before_and_after(
        out / 'demo.png',
        records,
        before.flight,
        after.flight,
        limits,
        float(controller['time_step']),
        title=f'{summary["flights"]} flights over ROS 2: the vehicle tunes its own MPC',
        subtitle=(
            f'J = C + {objective.penalty:g} V: {costs["before"].J:.2f} before, '
            f'{costs["after"].J:.2f} after.   Configuration: {Path(arguments.config).stem}, '
            f'seed {seed}'
        ),
    )
    wall_time = time.monotonic() - began
    report: dict[str, Any] = {
        name: {key: getattr(cost, key) for key in 'CVJ'} for name, cost in costs.items()
    }
    report |= {'learning': summary, 'wall_time': wall_time, **provenance()}
    write_json(report, out / 'demo.json')
    _print(console, costs, objective.penalty)
    best = best_record(records)
    console.print(
        f'{summary["flights"]} flights in {summary["iterations"]} iterations; best: iteration '
        f'{best["k"] if best else "-"}; seed {seed}; {duration(wall_time)} in all\n'
        f'picture: {picture}\n'
        f'numbers: {out / "demo.json"}\n'
        f'fly the best weights: hmpc fly --set controller.weights_file={best_weights}'
    )
    return 0 if costs['after'].J < costs['before'].J else 1


def _print(console: Console, costs: dict[str, Any], penalty: float) -> None:
    table = columns('', 'before', 'after', 'change')
    meanings = {
        'C': 'tracking cost C',
        'V': 'violation of the bounds V',
        'J': f'objective J = C + {penalty:g} V',
    }
    for key, meaning in meanings.items():
        before, after = (getattr(cost, key) for cost in costs.values())
        table.add_row(meaning, f'{before:.4f}', f'{after:.4f}', change(before, after))
    console.print(table)
