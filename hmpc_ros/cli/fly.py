"""``hmpc fly``: one flight under the MPC, over ROS 2 or offline."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from hmpc_ros.cli.options import (
    MOST_STEPS,
    add_configuration,
    count,
    output_file,
    output_folder,
    read_configuration,
    refuse_to_mismatch,
)
from hmpc_ros.configuration import build, learner
from hmpc_ros.configuration.files import Configuration, addressed
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.learning.flight import Flight
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.ros.graph import ParameterValue, simulation

STEPS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``hmpc fly``."""
    add_configuration(parser)
    parser.add_argument(
        '--offline',
        action='store_true',
        help='fly in this process, without ROS: the same flight, the same cost',
    )
    parser.add_argument(
        '--steps',
        type=count(MOST_STEPS),
        metavar='N',
        help=f'control steps (default: {STEPS}; along a reference, all of it)',
    )
    parser.add_argument(
        '--real-time',
        type=float,
        nargs='?',
        const=1.0,
        metavar='FACTOR',
        help='fly at the pace of the wall clock, or FACTOR times as fast, instead of in lockstep',
    )
    parser.add_argument(
        '--out',
        type=output_folder,
        default='build/flight',
        metavar='DIR',
        help='folder of the picture, flight.json and flight.npz (default: build/flight)',
    )
    parser.add_argument(
        '--json', type=output_file, metavar='FILE', help='write the results to this file as well'
    )
    parser.add_argument(
        '--rviz', action='store_true', help='watch the flight in RViz (implies --real-time)'
    )
    parser.add_argument('--verbose', action='store_true', help="show the nodes' output")


@dataclass(frozen=True, eq=False)
class Flown:
    """A flight and how it was flown.

    Attributes:
        flight: states and inputs.
        how: a few words, e.g. "over ROS 2 in lockstep".
        timing_label: what ``timing`` is.
        timing: per step [s].
        failures: solves that failed.
        fallbacks: commands that were no solution of the MPC.
        wall_time: how long it took [s].
        notes: what a reader should know, e.g. commands that were late.
    """

    flight: Flight
    how: str
    timing_label: str
    timing: NDArray[np.float64]
    failures: int | None
    fallbacks: int | None
    wall_time: float
    notes: list[str] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> int:
    """Fly, then print the cost and write picture, JSON and arrays."""
    if arguments.rviz and arguments.real_time is None:
        arguments.real_time = 1.0
    if arguments.offline and arguments.real_time is not None:
        raise ValueError('--offline has no clock to fly by: leave out --real-time and --rviz')
    if arguments.real_time is not None:
        arguments.overrides.append(f'simulator.real_time_factor={arguments.real_time}')
    path, configuration = read_configuration(arguments)
    simulator, controller = configuration['simulator'], configuration['controller']
    refuse_to_mismatch(configuration)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if controller['policy.kind'] == 'tracking':
        from hmpc_ros.cli import fly_tracking

        return fly_tracking.run(arguments, path, configuration)
    arguments.steps = arguments.steps or STEPS

    console = Console(highlight=False)
    with flight_progress(console, arguments.steps) as progress:
        if arguments.offline:
            flown = fly_offline(configuration, arguments.steps, progress)
        else:
            flown = fly_over_ros(configuration, path, arguments, progress)

    limits = build.limits(controller)
    outcome = learner.objective(configuration['learner'], limits).cost(flown.flight)
    result = summary(flown, outcome, configuration)
    result.update(what_was_run(arguments, path, configuration))
    write_json(result, arguments)
    flown.flight.save(arguments.out / 'flight.npz')
    picture = None
    if flown.flight.steps:
        picture = _picture(arguments.out / 'flight.png', flown, outcome, limits, path, simulator)
    _print(console, flown, result, picture)
    return 0 if flown.flight.complete and outcome.finite else 1


# -- the two ways to fly ---------------------------------------------------------------------------


class _WatchedMpc:
    """An MPC that tells how often it was asked and how long each solve took."""

    def __init__(self, mpc: Any, on_solve: Any) -> None:
        self._mpc = mpc
        self._on_solve = on_solve
        self.times: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mpc, name)

    def solve(self, *arguments: Any) -> Any:
        solution = self._mpc.solve(*arguments)
        self.times.append(solution.total_time)
        self._on_solve(len(self.times))
        return solution


def fly_offline(configuration: Configuration, steps: int, progress: Any) -> Flown:
    """Fly in this process."""
    from hmpc_ros.learning.rollout import rollout

    simulator, controller = configuration['simulator'], configuration['controller']
    progress('building the solver', 0)
    mpc = _WatchedMpc(build.mpc(controller), lambda step: progress('flying', step))
    begun = time.monotonic()
    flight = rollout(
        build.vehicle(simulator),
        mpc,  # type: ignore[arg-type]
        build.goal(controller),
        np.array(simulator['initial_state']),
        steps,
        flight_number=0,
        safety=build.safety(controller),
        keep_solutions=False,
    )
    wall_time = time.monotonic() - begun
    times = np.full(flight.steps, np.nan)
    times[: len(mpc.times)] = mpc.times[: flight.steps]
    notes = [flight.ended] if flight.ended else []
    return Flown(
        flight=flight,
        how='offline',
        timing_label='Solve time',
        timing=times,
        failures=len(flight.failed_steps),
        fallbacks=len(flight.failed_steps),
        wall_time=wall_time,
        notes=notes,
    )


def fly_over_ros(
    configuration: Configuration, path: Path, arguments: argparse.Namespace, progress: Any
) -> Flown:
    """Fly with the real nodes, each a process of its own."""
    try:
        from hmpc_ros.ros.local_flight import fly
    except ImportError as error:
        raise ros_is_missing(error) from error

    simulator = configuration['simulator']
    paced = float(simulator['real_time_factor'])
    overrides = given_values(configuration, arguments.overrides)
    overrides['simulator'].update(start_paused=True, episode_steps=arguments.steps)
    nodes = simulation(path, overrides, rviz=arguments.rviz)

    local = fly(
        nodes,
        arguments.steps,
        float(simulator['time_step']),
        hold_missing=paced > 0,
        reader=node_output(arguments.verbose),
        progress=progress,
    )
    record = local.record
    notes = []
    if record.held:
        notes.append(f'{len(record.held)} commands did not arrive in time and were held')
    if record.repeated_states:
        notes.append(f'{record.repeated_states} states were sent again')
    counts = controller_counts(local.diagnostics, lockstep=not paced)
    return Flown(
        flight=Flight(
            states=record.states,
            inputs=record.inputs,
            goal=build.goal(configuration['controller']),
            hover_input=build.model(configuration['controller']).hover_input,
            planned_steps=arguments.steps,
        ),
        how=f'over ROS 2 at {paced:g} x real time' if paced else 'over ROS 2 in lockstep',
        timing_label='Odometry to command',
        timing=record.answer_times,
        failures=counts.get('failures'),
        fallbacks=counts.get('fallbacks'),
        wall_time=local.wall_time,
        notes=notes,
    )


def given_values(
    configuration: Configuration, overrides: list[str]
) -> dict[str, dict[str, ParameterValue]]:
    """Return the values that must be given to the nodes besides the parameter file.

    These are the overrides, checked and in the parameters' own types, and the model's file, whose
    path in the parameter file is relative to that file.
    """
    values: dict[str, dict[str, ParameterValue]] = {name: {} for name in TABLES}
    for override in overrides:
        node, name = addressed(override.partition('=')[0])
        for each in TABLES if node == '**' else [node]:
            if name in TABLES[each]:
                values[each][name] = configuration[each][name]
    for name in ('model.file', 'weights_file'):
        file = configuration['controller'].get(name)
        if file:
            values['controller'][name] = str(Path(str(file)).absolute())
    return values


def ros_is_missing(error: ImportError) -> ValueError:
    """Return the error that says what to do without ROS."""
    return ValueError(
        f'ROS 2 is not here ({error}): source its setup file, or install the wheels with '
        f'`make setup`, or fly without it: hmpc fly --offline'
    )


def node_output(shown: bool) -> Callable[[str, str], None]:
    """Return what takes the lines that nodes write."""

    def reader(name: str, line: str) -> None:
        if shown:
            print(f'[{name}] {line}', file=sys.stderr)

    return reader


def controller_counts(
    diagnostics: Mapping[str, Mapping[str, str]], *, lockstep: bool
) -> dict[str, int]:
    """Read the controller's counters from its diagnostics."""
    counts: dict[str, int] = {}
    for status, values in diagnostics.items():
        if 'controller' not in status:
            continue
        for key in ('failures', 'fallbacks'):
            with contextlib.suppress(KeyError, ValueError):
                counts[key] = int(values[key])
        if lockstep and 'fallbacks' in counts:
            # Nothing that answers no state is flown in lockstep.
            counts['fallbacks'] -= int(values.get('fallbacks: state timeout', 0))
    return counts


# -- what is shown and written ---------------------------------------------------------------------


@contextlib.contextmanager
def flight_progress(console: Console, steps: int) -> Iterator[Any]:
    """Show a progress bar while flying; yields ``progress(stage, step)``."""
    columns = (
        SpinnerColumn(),
        TextColumn('{task.description:<22}'),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn('steps'),
    )
    # In a log file a bar would only leave empty lines.
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task('starting', total=steps)
        yield lambda stage, step: bar.update(task, description=stage, completed=step)


def summary(flown: Flown, outcome: Outcome, configuration: Configuration) -> dict[str, Any]:
    """Return the numbers of a flight, for JSON; what is not finite becomes null."""
    flight = flown.flight
    limits = build.limits(configuration['controller'])
    distance = float(np.linalg.norm(flight.deviations[-1, :3]))
    known = flown.timing[np.isfinite(flown.timing)]
    median, p99 = np.percentile(known, (50, 99)) if len(known) else (np.nan, np.nan)
    numbers = {
        'C': outcome.C,
        'V': outcome.V,
        'J': outcome.J,
        'penalty': configuration['learner']['objective.penalty'],
        'steps': flight.steps,
        'rotor_min': float(flight.inputs.min()) if flight.steps else np.nan,
        'rotor_max': float(flight.inputs.max()) if flight.steps else np.nan,
        'failures': flown.failures,
        'fallbacks': flown.fallbacks,
        'final_distance': distance,
        'finite': bool(np.isfinite(flight.states).all() and np.isfinite(flight.inputs).all()),
        'inside_rotor_limits': bool(
            np.all((flight.inputs >= limits.rotor_min) & (flight.inputs <= limits.rotor_max))
        ),
        'wall_time': flown.wall_time,
        'steps_per_second': flight.steps / flown.wall_time if flown.wall_time else np.nan,
        'step_time_median': float(median),
        'step_time_p99': float(p99),
        'step_time_is': flown.timing_label,
        'notes': flown.notes,
    }
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in numbers.items()
    }


def write_json(result: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Write the numbers of a flight to the folder of results, and to the file of --json."""
    text = json.dumps(result, indent=2, allow_nan=False) + '\n'
    for file in filter(None, (arguments.out / 'flight.json', arguments.json)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')


def what_was_run(
    arguments: argparse.Namespace, path: Path, configuration: Configuration
) -> dict[str, Any]:
    """Return what makes a flight repeatable: configuration, overrides, versions."""
    objective = {
        name: value
        for name, value in configuration['learner'].items()
        if name.startswith('objective.')
    }
    return {
        'mode': 'offline' if arguments.offline else 'ros',
        'seed': configuration['simulator']['seed'],
        'config_file': str(path),
        'overrides': list(arguments.overrides),
        'configuration': {
            'simulator': configuration['simulator'],
            'controller': configuration['controller'],
            'learner': objective,
        },
        **provenance(),
    }


def _picture(
    file: Path,
    flown: Flown,
    outcome: Outcome,
    limits: Limits,
    config: Path,
    simulator: Mapping[str, Any],
) -> Path:
    from hmpc_ros.cli.figures import Timing, draw_flight

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
