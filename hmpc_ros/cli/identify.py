"""``hmpc identify``: fit the MPC's linear model to flights, the paper's way or from files."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hmpc_ros.cli.options import (
    MOST_RUNS,
    add_configuration,
    count,
    model_file,
    output_file,
    read_configuration,
)
from hmpc_ros.cli.report import write_json
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.plant.quadcopter import STATE_NAMES
from hmpc_ros.policy.linear.flight_file import load_flight
from hmpc_ros.policy.linear.identification import FlightPlan, identify_from_flights
from hmpc_ros.studies.identification import identify_by_flying, statistics

if TYPE_CHECKING:
    from hmpc_ros.plant.identification import Identification

DESCRIPTION = """\
Fit the linear model x+ = A x + B u + c of the MPC to flights, by least squares.

Without files the simulated vehicle is flown near its goal under a stabilising controller (LQR) with
a test signal on the rotors, from random initial states. With files, flights that hmpc fly wrote
(flight.npz) are used as they are.
"""
EXAMPLES = """\
examples:
  hmpc identify --out build/model.npz
  hmpc identify --attitude 0.6 --rates 0.4 --out build/far_from_hover.npz
  hmpc identify flights/*.npz --out build/model.npz
  hmpc fly --set controller.model.source=file --set controller.model.file=build/model.npz
"""
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
        type=model_file,
        default='build/model.npz',
        help='model to write (default: build/model.npz)',
    )
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='write the statistics to a file'
    )


def run(arguments: argparse.Namespace) -> int:
    """Identify, say how well it went, and write the model."""
    _, configuration = read_configuration(arguments)
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
