"""``hmpc fly``: one flight under the MPC, over ROS 2 or offline."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hmpc_ros.cli import fly_tracking
from hmpc_ros.cli.options import (
    MOST_STEPS,
    add_configuration,
    add_vehicle,
    count,
    output_file,
    output_folder,
    read_configuration,
    reader,
    recording,
    refuse_to_fly,
    refuse_to_mismatch,
    take_url,
)
from hmpc_ros.cli.report import flight_progress, what_was_run, write_json
from hmpc_ros.configuration import build, learner
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.policy.linear.flight_file import save_flight
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.studies.flying import Flown, fly_offline, fly_over_ros, summary

STEPS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``hmpc fly``."""
    add_configuration(parser)
    parser.add_argument(
        '--offline', action='store_true',
        help='fly in this process, without ROS: the same flight, the same cost',
    )  # fmt: skip
    add_vehicle(parser)
    parser.add_argument(
        '--steps', type=count(MOST_STEPS), metavar='N',
        help=f'control steps (default: {STEPS}; along a reference, all of it)',
    )  # fmt: skip
    parser.add_argument(
        '--real-time', type=float, nargs='?', const=1.0, metavar='FACTOR',
        help='fly at the pace of the wall clock, or FACTOR times as fast, instead of in lockstep',
    )  # fmt: skip
    parser.add_argument(
        '--out', type=output_folder, default='build/flight', metavar='DIR',
        help='folder of the picture, flight.json and flight.npz (default: build/flight)',
    )  # fmt: skip
    parser.add_argument(
        '--json', type=output_file, metavar='FILE', help='write the results to this file as well'
    )
    parser.add_argument(
        '--rviz', action='store_true', help='watch the flight in RViz (implies --real-time)'
    )
    parser.add_argument(
        '--record', action='store_true', help='record all topics to flight.mcap in the --out folder'
    )
    parser.add_argument('--verbose', action='store_true', help="show the nodes' output")


def run(arguments: argparse.Namespace) -> int:
    """Fly, then print the cost and write picture, JSON and arrays."""
    if arguments.vehicle:
        return _fly_vehicle(arguments)
    take_url(arguments)
    if arguments.rviz and arguments.real_time is None:
        arguments.real_time = 1.0
    if arguments.offline and arguments.real_time is not None:
        raise ValueError('--offline has no clock to fly by: leave out --real-time and --rviz')
    if arguments.offline and arguments.record:
        raise ValueError('--offline has no topics to record: leave out --record')
    if arguments.real_time is not None:
        arguments.overrides.append(f'simulator.real_time_factor={arguments.real_time}')
    path, configuration = read_configuration(arguments)
    simulator, controller = configuration['simulator'], configuration['controller']
    refuse_to_mismatch(configuration)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if controller['policy.kind'] == 'tracking':
        return fly_tracking.run(arguments, path, configuration)
    arguments.steps = arguments.steps or STEPS

    console = Console(highlight=False)
    with flight_progress(console, arguments.steps) as progress:
        if arguments.offline:
            flown = fly_offline(configuration, arguments.steps, progress)
        else:
            flown = fly_over_ros(
                configuration, arguments.steps, progress, rviz=arguments.rviz,
                record=recording(arguments), reader=reader(arguments.verbose),
            )  # fmt: skip

    limits = build.limits(controller)
    outcome = learner.objective(configuration['learner'], limits).cost(flown.flight)
    result = summary(flown, outcome, configuration)
    result.update(what_was_run(arguments, path, configuration))
    write_json(result, arguments.out / 'flight.json', arguments.json, allow_nan=False)
    save_flight(flown.flight, arguments.out / 'flight.npz')
    picture = None
    if flown.flight.steps:
        picture = _picture(arguments.out / 'flight.png', flown, outcome, limits, path, simulator)
    _print(console, flown, result, picture)
    return 0 if flown.flight.complete and outcome.finite else 1


def _fly_vehicle(arguments: argparse.Namespace) -> int:
    for name in ('offline', 'rviz', 'real_time'):
        if getattr(arguments, name):
            option = name.replace('_', '-')
            raise ValueError(f'--{option} is of a simulated vehicle: leave it out with --vehicle')
    if arguments.config == 'reference':
        arguments.config = 'autopilot'
    take_url(arguments)
    path, configuration = read_configuration(arguments)
    refuse_to_fly(configuration)
    arguments.out.mkdir(parents=True, exist_ok=True)
    return fly_tracking.run(arguments, path, configuration)


# -- what is shown and written ---------------------------------------------------------------------


def _picture(
    file: Path,
    flown: Flown,
    outcome: Outcome,
    limits: Limits,
    config: Path,
    simulator: Mapping[str, Any],
) -> Path:
    from hmpc_ros.figures.flight import Timing, draw_flight

    flight = flown.flight
    seconds = flight.steps * float(simulator['time_step'])
    position = ', '.join(f'{value:g}' for value in flight.goal.position)
    return draw_flight(
        file,
        flight,
        limits,
        float(simulator['time_step']),
        title=f'{seconds:g} s to ({position}) m, flown {flown.how}',
        subtitle=(
            f'C = {outcome.C:.4f}     V = {outcome.V:.5f}     J = {outcome.J:.4f}     '
            f'configuration: {config.stem}     shaded: beyond the bounds'
        ),
        timing=Timing(flown.timing_label, flown.timing),
    )


def _print(console: Console, flown: Flown, result: Mapping[str, Any], picture: Path | None) -> None:
    flight = flown.flight

    def number(name: str, form: str) -> str:
        return 'unknown' if result[name] is None else format(result[name], form)

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style='bold')
    table.add_column(justify='right')
    table.add_column(style='dim')
    table.add_row('C', number('C', '.4f'), 'tracking cost')
    table.add_row('V', number('V', '.5f'), 'violation of the state bounds')
    table.add_row('J', number('J', '.4f'), f'C + {result["penalty"]:g} V')
    table.add_row('distance', f'{result["final_distance"]:.4f} m', 'to the goal at the end')
    table.add_row(
        'rotors',
        f'{number("rotor_min", ".2f")} .. {number("rotor_max", ".2f")}',
        'rad/s, lowest and highest speed',
    )
    table.add_row(
        'failures', number('failures', 'd'), f'failed solves; fallbacks: {number("fallbacks", "d")}'
    )
    if result['step_time_median'] is not None:
        table.add_row(
            'step time',
            f'{1e3 * result["step_time_median"]:.2f} ms',
            f'{flown.timing_label[0].lower()}{flown.timing_label[1:]}, median '
            f'(99 %: {1e3 * result["step_time_p99"]:.2f} ms)',
        )
    pace = number('steps_per_second', '.0f')
    title = f'Flew {flight.steps} steps {flown.how}'
    console.print(f'[bold]{title}[/] in {flown.wall_time:.2f} s ({pace}/s)')
    console.print(table)
    for note in flown.notes:
        console.print(f'note: {note}')
    if picture is not None:
        console.print(f'picture: {picture}', soft_wrap=True)
