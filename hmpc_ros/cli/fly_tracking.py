"""``hmpc fly`` with the tracking MPC: along a reference, its errors in numbers."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hmpc_ros.cli.options import reader, recording
from hmpc_ros.cli.report import flight_progress, what_was_run, write_json
from hmpc_ros.configuration import build_tracking as build
from hmpc_ros.configuration.files import Configuration
from hmpc_ros.plant.kinds import RATES
from hmpc_ros.plant.reference.feasibility import Feasibility
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.policy.tracking import flying, performance
from hmpc_ros.studies.flying import finite
from hmpc_ros.studies.tracking import fly_over_ros
from hmpc_ros.studies.vehicle import fly_vehicle

AFTERWARDS = 2.0  # s of hover at the end of a reference, to see it settle
HOVER = 10.0  # s, of a reference that never ends


def run(arguments: argparse.Namespace, path: Path, configuration: Configuration) -> int:
    """Fly, then print the errors and write picture, JSON and arrays."""
    if arguments.offline and configuration['controller']['reference.kind'] == 'topic':
        raise ValueError('reference.kind topic comes over ROS: offline there is none to listen to')
    reference, demand = build.reference(configuration)
    flies = 'controller' if arguments.vehicle else 'simulator'
    steps = arguments.steps or default_steps(reference, configuration[flies]['time_step'])

    console = Console(highlight=False)
    with flight_progress(console, steps) as progress:
        told: dict[str, Any] = {}
        if arguments.vehicle:
            flight, told, wall_time = fly_vehicle(
                configuration, f'{arguments.vehicle}_adapter', reference, steps, progress,
                say=console.print, patience=arguments.patience,
                reader=reader(arguments.verbose),
            )  # fmt: skip
        elif arguments.offline:
            progress('building the solver', 0)
            policy = build.policy(configuration)
            begun = time.monotonic()
            flight = flying.fly(
                build.simulator(configuration['simulator']), policy, reference, steps,
                flight_number=0, keep_solutions=False, on_step=lambda k: progress('flying', k),
            )  # fmt: skip
            wall_time = time.monotonic() - begun
        else:
            flight, told, wall_time = fly_over_ros(
                configuration, reference, steps, progress,
                rviz=arguments.rviz, record=recording(arguments),
                reader=reader(arguments.verbose),
            )  # fmt: skip
    result = summary(flight, reference, demand, configuration, wall_time)
    result.update(what_was_run(arguments, path, configuration))
    result.update(told)
    write_json(result, arguments.out / 'flight.json', arguments.json, allow_nan=False)
    flight.save(arguments.out / 'flight.npz')
    simulator = configuration['simulator']
    whose = (
        (build.assumed(configuration).name, f'flown through {told["adapter"]}')
        if arguments.vehicle
        else (simulator['preset'], f'physics: {simulator["backend"]}')
    )
    picture = _picture(arguments.out / 'flight.png', flight, result, configuration, *whose)
    _print(console, flight, result, demand)
    if picture is not None:
        console.print(f'picture: {picture}', soft_wrap=True)
    return 0 if flight.complete and result['finite'] else 1


def default_steps(reference: Reference, time_step: float) -> int:
    """Return the control steps of a whole reference and a little hover."""
    duration = reference.duration
    seconds = duration + AFTERWARDS if math.isfinite(duration) else HOVER
    return math.ceil(seconds / time_step - 1e-9)


def summary(
    flight: flying.TrackedFlight,
    reference: Reference,
    demand: Feasibility,
    configuration: Configuration,
    wall_time: float,
) -> dict[str, Any]:
    """Return the numbers of a flight, for JSON; what is not finite or not defined is null."""
    controller = configuration['controller']
    # Of a step all counts: it begins at rest where the vehicle is.
    step = controller['reference.kind'] == 'step'
    after = 0.0 if step else controller['tracking.rmse_after']
    errors = performance.tracking(flight, after, performance.steady_end(reference))
    bounds = build.limits(controller, build.assumed(configuration))
    u, n = flight.inputs, flight.steps
    inside = bool(((u >= bounds.input_min) & (u <= bounds.input_max)).all())
    solves = 1e3 * flight.solve_times
    median, p99 = np.percentile(solves, (50, 99)) if n else (math.nan, math.nan)
    result: dict[str, Any] = {
        # The objective of the linear MPC's flights: rotor speeds, a goal.
        'C': None,
        'V': None,
        'J': None,
        'steps': n,
        'time_step': flight.time_step,
        'reference.kind': controller['reference.kind'],
        'tracking.rmse_m': errors and errors.rmse,
        'tracking.max_m': errors and errors.largest,
        'tracking.rmse_after_s': errors and errors.after,
        'tracking.rmse_until_s': errors and errors.until,
        'tracking.axes_m': errors and list(errors.axes),
        'tracking.final_m': float(np.linalg.norm(flight.errors[-1])),
        'solve_ms.median': float(median),
        'solve_ms.p99': float(p99),
        'failures': len(flight.failures),
        'fallbacks': len(flight.fallbacks),
        'tilt_max_deg': float(np.degrees(RATES.tilt(flight.states).max())),
        'thrust_min': float(u[:, 0].min()) if n else math.nan,
        'thrust_max': float(u[:, 0].max()) if n else math.nan,
        'rates_max': np.abs(u[:, 1:]).max(axis=0).tolist() if n else None,
        'inside_limits': inside,
        'finite': bool(np.isfinite(flight.states).all() and np.isfinite(u).all()),
        'reference_asks': str(demand),
        'wall_time': wall_time,
        'steps_per_second': n / wall_time if wall_time else math.nan,
        'notes': [flight.ended] if flight.ended else [],
    }
    if step:
        settled = performance.settling(flight)
        result['settle_5cm_s'] = settled.within_5cm
        result['settle_2cm_s'] = settled.within_2cm
        result['overshoot'] = settled.overshoot
    return finite(result)


def _picture(
    file: Path,
    flight: flying.TrackedFlight,
    result: Mapping[str, Any],
    configuration: Configuration,
    vehicle: str,
    how: str,
) -> Path | None:
    if not flight.steps or not result['finite']:
        return None
    from hmpc_ros.figures.tracking import draw_tracking

    controller = configuration['controller']
    rmse, largest = (result[f'tracking.{name}_m'] for name in ('rmse', 'max'))
    after, until = (result[f'tracking.rmse_{name}_s'] for name in ('after', 'until'))
    return draw_tracking(
        file,
        flight,
        build.limits(controller, build.assumed(configuration)),
        performance.Tracking(rmse, largest, tuple(result['tracking.axes_m']), after, until),
        title=f'{vehicle} along {controller["reference.kind"]}, '
        f'{flight.steps * flight.time_step:g} s',
        subtitle=f'RMSE {100 * rmse:.2f} cm     largest {100 * largest:.2f} cm     '
        f'{after:g} to {until:g} s     {how}     '
        f'failed solves: {result["failures"]}',
    )


def _print(
    console: Console, flight: flying.TrackedFlight, result: Mapping[str, Any], demand: Feasibility
) -> None:
    def number(name: str, form: str, scale: float = 1.0, unit: str = '') -> str:
        value = result[name]
        return 'never' if value is None else format(scale * value, form) + unit

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style='bold')
    table.add_column(justify='right')
    table.add_column(style='dim')
    if flight.steps:
        axes = ', '.join(f'{100 * each:.2f}' for each in result['tracking.axes_m'])
        table.add_row(
            'error',
            number('tracking.rmse_m', '.2f', 100, ' cm'),
            f'RMSE of the position, {result["tracking.rmse_after_s"]:g} to '
            f'{result["tracking.rmse_until_s"]:g} s; along x, y, z: {axes}',
        )
        table.add_row('largest', number('tracking.max_m', '.2f', 100, ' cm'), 'in that time')
        rates = ', '.join(f'{each:.2f}' for each in result['rates_max'])
        table.add_row(
            'commands',
            f'{result["thrust_min"]:.2f} .. {result["thrust_max"]:.2f}',
            f'm/s^2 thrust; rates up to ({rates}) rad/s',
        )
        table.add_row('tilt', number('tilt_max_deg', '.1f', 1.0, ' deg'), 'at most')
    if 'overshoot' in result:
        table.add_row(
            'settled',
            number('settle_5cm_s', '.2f', 1.0, ' s'),
            f'within 5 cm for good; within 2 cm: {number("settle_2cm_s", ".2f", 1.0, " s")}',
        )
        table.add_row('overshoot', f'{100 * result["overshoot"]:.1f} %', 'of the distance')
    table.add_row('failures', str(result['failures']), f'fallbacks: {result["fallbacks"]}')
    if flight.steps and result['solve_ms.p99'] is not None:
        table.add_row(
            'solve time',
            number('solve_ms.median', '.2f', 1.0, ' ms'),
            f'median (99 %: {result["solve_ms.p99"]:.2f} ms)',
        )
    seconds = flight.steps * flight.time_step
    console.print(
        f'[bold]Flew {flight.steps} steps, {seconds:g} s, along {result["reference.kind"]}[/] '
        f'in {result["wall_time"]:.2f} s'
    )
    console.print(table)
    console.print(f'the reference asks for: {demand}', soft_wrap=True)
    for note in result['notes']:
        console.print(f'note: {note}')
