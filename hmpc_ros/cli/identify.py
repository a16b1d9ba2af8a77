"""``hmpc identify``: fit a model of the vehicle to flights, the paper's way or from files."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hmpc_ros import disk
from hmpc_ros.cli.options import (
    MOST_RUNS,
    add_configuration,
    count,
    model_file,
    output_file,
    read_configuration,
)
from hmpc_ros.cli.report import write_json
from hmpc_ros.cli.train import tell_identified
from hmpc_ros.configuration import build_tracking, tracking_learner
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.weights_file import write_weights
from hmpc_ros.plant.grey_box_fit import Recording, fit
from hmpc_ros.plant.quadcopter import STATE_NAMES
from hmpc_ros.plant.rigid_body import NU, NX
from hmpc_ros.policy.linear.flight_file import load_flight
from hmpc_ros.policy.linear.identification import FlightPlan, identify_from_flights
from hmpc_ros.policy.tracking.parameters import assumed_box, refitted
from hmpc_ros.policy.tracking.solver import TrackingSolverOptions
from hmpc_ros.studies.identification import identify_by_flying, statistics

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.plant.identification import Identification

DESCRIPTION = """\
Fit the linear model x+ = A x + B u + c of the MPC to flights, by least squares.

Without files the simulated vehicle is flown near its goal under a stabilising controller (LQR) with
a test signal on the rotors, from random initial states. With files, flights that hmpc fly wrote
(flight.npz) are used as they are.

Of the tracking MPC (--config tracking) thrust gain, drag, disturbance, lags and delay are fitted,
with standard errors, to all flights together: flight.npz, recordings (MCAP) and results folders.
What the flights do not tell stays as assumed. The file that is written is for the controller's
weights_file.
"""
EXAMPLES = """\
examples:
  hmpc identify --out build/model.npz
  hmpc identify --attitude 0.6 --rates 0.4 --out build/far_from_hover.npz
  hmpc identify flights/*.npz --out build/model.npz
  hmpc fly --set controller.model.source=file --set controller.model.file=build/model.npz
  hmpc identify --config tracking build/flight/flight.mcap --out build/identified.yaml
  hmpc fly --config tracking --set controller.weights_file=build/identified.yaml
"""
_ARRAYS = {'times': (None,), 'measured': (None, NX), 'inputs': (None, NU)}
_HELP = {
    'flights': 'number of flights',
    'steps': 'steps of each',
    'position': 'largest initial distance from the goal [m]',
    'velocity': 'largest initial velocity [m/s]',
    'attitude': 'largest initial roll, pitch and yaw [rad]; the larger, the less linear',
    'rates': 'largest initial body rates [rad/s]',
    'excitation': 'standard deviation of the test signal on each rotor [rad/s]',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('files', metavar='FLIGHT', nargs='*', type=Path, help='recorded flights')
    add_configuration(parser)
    for option in fields(FlightPlan):
        parser.add_argument(
            f'--{option.name}',
            metavar='N' if isinstance(option.default, int) else 'X',
            type=count(MOST_RUNS) if isinstance(option.default, int) else float,
            default=option.default,
            help=f'{_HELP[option.name]} (default: {option.default})',
        )
    parser.add_argument('--no-offset', action='store_true', help='leave out c')
    parser.add_argument(
        '--seed', metavar='N', type=int, default=0, help='of states and test signal'
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        type=output_file,
        help='model to write (default: build/model.npz; of the tracking MPC build/identified.yaml)',
    )
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='write the statistics to a file'
    )


def run(arguments: argparse.Namespace) -> int:
    """Identify, say how well it went, and write the model."""
    _, configuration = read_configuration(arguments)
    if configuration['controller']['policy.kind'] == 'tracking':
        return _identify_box(configuration, arguments)
    try:
        arguments.out = model_file(str(arguments.out or 'build/model.npz'))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f'--out: {error}') from error
    if arguments.files:
        flights = [load_flight(file) for file in arguments.files]
        time_step = configuration['controller']['time_step']
        found = identify_from_flights(flights, time_step, not arguments.no_offset)
        source: dict[str, Any] = {'files': [str(file) for file in arguments.files]}
    else:
        plan = FlightPlan(**{o.name: getattr(arguments, o.name) for o in fields(FlightPlan)})
        found = identify_by_flying(configuration, plan, arguments.seed, not arguments.no_offset)
        source = {'plan': asdict(plan), 'seed': arguments.seed}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found.model.save(arguments.out)
    console = Console(highlight=False)
    _print(console, found)
    console.print(f'model {found.model.identity}: {arguments.out}', soft_wrap=True)
    if arguments.json:
        write_json({**statistics(found), **source, **provenance()}, arguments.json)
    return 0


def _identify_box(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Identify what the tracking MPC has to know of a vehicle."""
    if not arguments.files:
        raise ValueError('give flights to identify from: flight.npz, MCAP files, results folders')
    preset = build_tracking.assumed(configuration)
    controller = build_tracking.started(configuration['controller'], preset)
    start = build_tracking.parameters(controller, preset)
    flights = [
        flight
        for path in arguments.files
        for flight in _recordings(path, controller['time_step'])
    ]
    found = fit(flights, assumed_box(start))
    told = found.as_dict()
    out = arguments.out or output_file('build/identified.yaml')
    out.parent.mkdir(parents=True, exist_ok=True)
    entries = build_tracking.entries(refitted(start, found.box).theta)
    columns = ('estimate', 'standard_error')
    about = {column: {name: each[column] for name, each in told.items()} for column in columns}
    write_weights(out, entries, preset.name, TrackingSolverOptions().horizon, about)
    console = Console(highlight=False)
    tell_identified(console, {'identified': told})
    console.print(f'{len(flights)} flights; for controller.weights_file: {out}', soft_wrap=True)
    if arguments.json:
        files = [str(file) for file in arguments.files]
        result = {'identified': told, 'flights': len(flights), 'files': files}
        write_json({**result, **provenance()}, arguments.json)
    return 0


def _recordings(path: Path, time_step: float) -> list[Recording]:
    """Return the flights in a file or results folder; raises ValueError."""
    if path.is_dir():
        memories = sorted(path.glob('memory-*.npz'))
        arrays = disk.read_arrays(memories[-1]) if memories else {}
        flights = tracking_learner.kept_flights(arrays, time_step)
        if not flights:
            raise ValueError(f'{path} keeps no flights of the tracking MPC')
        return flights
    if path.suffix == '.mcap':
        from hmpc_ros.ros.recorded_flights import flights_in

        return flights_in(path)
    try:
        arrays = disk.read_arrays(path, _ARRAYS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{path} is no flight of the tracking MPC: {disk.reason(error)}'
        ) from error
    return [Recording(arrays['times'], arrays['measured'], arrays['inputs'])]


def _print(console: Console, found: Identification) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column('state')
    for heading in ('residual rms', 'residual max', 'change explained'):
        table.add_column(heading, justify='right')
    rows = zip(STATE_NAMES, found.residual_rms, found.residual_max, found.explained, strict=True)
    for name, rms, largest, explained in rows:
        table.add_row(name, f'{rms:.2e}', f'{largest:.2e}', f'{100 * explained:.2f} %')
    console.print(table)
    console.print(f'{found.samples} steps, condition number {found.condition:.1f}')
    for warning in found.warnings:
        console.print(f'[yellow]warning:[/] {warning}')
