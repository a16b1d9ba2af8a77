"""``hmpc demo`` with the tracking MPC: a wrong vehicle along a path, before and after learning."""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hmpc_ros.cli.options import reader
from hmpc_ros.cli.report import columns, write_json
from hmpc_ros.cli.train import ProgressBar, rehearsing
from hmpc_ros.configuration import build_tracking, tracking_learner
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.figures.learned_tracking import animate_learned, draw_learned
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.results import HEADER, number, read_records
from hmpc_ros.learning.summary import summarise
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.parameters import SPACE, TrackingParameters
from hmpc_ros.policy.tracking.student import for_people
from hmpc_ros.studies.tracking import flyer_over_ros

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.policy.tracking.flying import TrackedFlight


def run(arguments: argparse.Namespace, configuration: Configuration) -> int:
    """Fly, learn and fly again over ROS; return 0 when the flight became better."""
    if arguments.record:
        raise ValueError('--record is of policy.kind qp: leave it out with tracking')
    console = Console(highlight=False)
    began = time.monotonic()
    out: Path = arguments.out
    results = out / 'learning'
    known = tracking_learner.teacher(configuration)
    steps = tracking_learner.steps(known)
    simulator, controller = configuration['simulator'], configuration['controller']
    differs = build_tracking.simulator(simulator).conditions.told
    if (results / HEADER).exists():  # of the last demonstration
        shutil.rmtree(results)

    console.print(
        f'[bold]{simulator["preset"]}[/], {differs}, along {controller["reference.kind"]}; its '
        f'controller does not know. Observer {_observer(controller)} before it learns.\n'
        f'Every flight is flown over ROS 2 in lockstep; between flights this process identifies '
        'the vehicle, and tunes the MPC in rehearsals.'
    )
    flights: list[TrackedFlight] = []
    with flyer_over_ros(
        configuration, known.reference, steps, reader=reader(arguments.verbose)
    ) as over_ros:

        def fly(request: FlightRequest) -> TrackedFlight:
            flights.append(over_ros(request))
            return flights[-1]

        observed = over_ros(FlightRequest(_with_observer(known.start), NOMINAL))
        with ProgressBar(console) as bar:
            training = tracking_learner.train(
                configuration, known, fly, results, bar.start, bar.update, rehearsing()
            )
    header, records = read_records(results)
    summary = summarise(header, records)
    if training.stopped:
        console.print(f'[red]the run diverged:[/] {training.stopped}')
        return 1
    before, after = records[0], records[-1]
    beside = for_people(observed, known.begin, known.end)
    identified = [
        {'name': name, **found, 'truth': _truths(simulator).get(name)}
        for name, found in (summary['identified'] or {}).items()
    ]
    picture = draw_learned(
        out / 'demo.png',
        flights[0],
        flights[-1],
        [number(record['rmse_m']) for record in records],
        number(beside['rmse_m']),
        identified,
        counted=(known.begin, known.end),
        title=f'{simulator["preset"]}, {differs}: '
        f'{_mm(before["rmse_m"])} mm before, {_mm(after["rmse_m"])} mm after '
        f'{len(flights) - 1} flights over ROS 2',
        subtitle=f'RMSE of the true position from {known.begin:g} to {known.end:g} s.   Physics: '
        f'{simulator["backend"]}.   Observer {_observer(controller)} before.   '
        f'Configuration: {Path(arguments.config).stem}, seed {header["seed"]}',
    )
    film = animate_learned(
        out / 'demo.gif', flights[0], flights[-1],
        (number(before['rmse_m']), number(after['rmse_m'])), (known.begin, known.end),
        title=f'{simulator["preset"]}, {differs}: {len(flights) - 1} flights over ROS 2',
    )  # fmt: skip
    wall_time = time.monotonic() - began
    report: dict[str, Any] = {
        'before_with_observer': beside,
        'before': {name: before[name] for name in ('J', 'rmse_m', 'max_m')},
        'after': {name: after[name] for name in ('J', 'rmse_m', 'max_m')},
        'identified': identified,
        'learning': summary,
        'wall_time': wall_time,
        **provenance(),
    }
    write_json(report, out / 'demo.json')
    _print(console, records, beside, identified)
    console.print(
        f'{len(flights)} flights; seed {header["seed"]}; {wall_time:.0f} s in all\n'
        f'picture: {picture}\nfilm: {film}\nnumbers: {out / "demo.json"}'
    )
    return 0 if number(after['rmse_m']) < number(before['rmse_m']) else 1


def _observer(controller: Any) -> str:
    gains = [controller[f'tracking.{name}_observer'] for name in ('thrust', 'force')]
    return 'on' if any(gains) else 'off'


def _with_observer(start: TrackingParameters) -> Parameters:
    """Return parameters that differ in the observer's gains only: they are the usual ones."""
    usual = TrackingParameters()
    gains = {'thrust_observer': usual.thrust_observer, 'force_observer': usual.force_observer}
    return Parameters(SPACE, replace(start, **gains).theta)


def _truths(simulator: Any) -> dict[str, float]:
    """Return what the simulated vehicle is by construction, of what is identified."""
    truths = {'thrust_gain': simulator['thrust_scale'] / simulator['mass_scale']}
    if simulator['wind.kind'] == 'none':
        truths |= {f'disturbance.{axis}': 0.0 for axis in 'xyz'}
    return truths


def _mm(metres: Any) -> str:
    return f'{1e3 * number(metres):.3g}'


def _print(
    console: Console, records: list[dict], beside: dict[str, Any], identified: list[dict]
) -> None:
    table = Table(box=None, header_style='bold', pad_edge=False, padding=(0, 3, 0, 0))
    for name in ('flight', r'RMSE \[mm]', r'largest \[mm]', ''):
        table.add_column(name, justify='right' if name else 'left')
    note = 'nothing learned, observer on, for comparison'
    table.add_row('', _mm(beside['rmse_m']), _mm(beside['max_m']), note)
    for i, record in enumerate(records):
        last = i == len(records) - 1
        word = 'before' if not i else 'after: the best that was found' if last else (
            '' if record.get('accepted', True) else 'no better, not kept'
        )  # fmt: skip
        table.add_row(str(i + 1), _mm(record['rmse_m']), _mm(record['max_m']), word)
    console.print(table)
    table = columns('identified', 'estimate', 'standard error', 'truth')
    for each in identified:
        if each['told']:
            truth = '' if each['truth'] is None else f'{each["truth"]:.4f}'
            table.add_row(
                each['name'], f'{each["estimate"]:.4f}', f'{each["standard_error"]:.2g}', truth
            )
        else:
            table.add_row(each['name'], 'as assumed', 'no flight tells', '')
    console.print(table)
