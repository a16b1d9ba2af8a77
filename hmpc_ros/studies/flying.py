"""One flight under the MPC, over ROS 2 or in this process, and its numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration import build
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.flying import rollout
from hmpc_ros.ros.graph import simulation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.learning.objective import Outcome
    from hmpc_ros.ros.graph import NodeSpec
    from hmpc_ros.ros.local_flight import Listener, LocalFlight

Progress = Callable[[str, int], None]


def nobody(_stage: str, _step: int) -> None:
    """Is told of the progress where nobody else is."""


@dataclass(frozen=True, eq=False)
class Flown:
    """A flight and how it was flown."""

    flight: Flight  #: states and inputs
    how: str  #: a few words, e.g. "over ROS 2 in lockstep"
    timing_label: str  #: what ``timing`` is
    timing: NDArray[np.float64]  #: per step [s]
    failures: int | None  #: solves that failed
    fallbacks: int | None  #: commands that were no solution of the MPC
    wall_time: float  #: how long it took [s]
    #: what a reader should know, e.g. commands that were late
    notes: list[str] = field(default_factory=list)


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


def fly_offline(configuration: Configuration, steps: int, progress: Progress = nobody) -> Flown:
    """Fly in this process; ``progress`` is told what is being done, and the step.

    Raises:
        ValueError: some values do not go together.
        AcadosMissingError, CodeGenerationError: see `Mpc`.
    """
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
        flight=flight, how='offline', timing_label='Solve time', timing=times,
        failures=len(flight.failed_steps), fallbacks=len(flight.failed_steps), wall_time=wall_time,
        notes=notes,
    )  # fmt: skip


def fly_over_ros(
    configuration: Configuration,
    steps: int,
    progress: Progress = nobody,
    *,
    rviz: bool = False,
    record: Path | None = None,
    reader: Callable[[str, str], None] | None = None,
) -> Flown:
    """Fly with the real nodes, each a process of its own, and with RViz where it is wanted.

    All topics go to the MCAP file ``record``; ``reader`` is called with the name of a node and each
    line of its output.

    Raises:
        ValueError: some values do not go together, or ROS 2 is not here.
        NodeDiedError, DiscoveryError: see `LocalRunner`.
        RecordingError: nothing can be recorded.
    """
    simulator = configuration['simulator']
    values = configuration.besides_file()
    values['simulator'].update(start_paused=True, episode_steps=steps)
    nodes = simulation(configuration.path, values, rviz=rviz)
    local, counts, notes = fly_nodes(
        configuration, nodes, steps, progress=progress, record=record, reader=reader
    )
    paced = float(simulator['real_time_factor'])
    return Flown(
        flight=Flight(
            states=local.record.states,
            inputs=local.record.inputs,
            goal=build.goal(configuration['controller']),
            hover_input=build.model(configuration['controller']).hover_input,
            planned_steps=steps,
        ),
        how=f'over ROS 2 at {paced:g} x real time' if paced else 'over ROS 2 in lockstep',
        timing_label='Odometry to command',
        timing=local.record.answer_times,
        failures=counts.get('failures'),
        fallbacks=counts.get('fallbacks'),
        wall_time=local.wall_time,
        notes=notes,
    )


def fly_nodes(
    configuration: Configuration,
    nodes: Sequence[NodeSpec],
    steps: int,
    *,
    progress: Progress,
    record: Path | None,
    reader: Callable[[str, str], None] | None,
    listeners: Sequence[Listener] = (),
) -> tuple[LocalFlight, dict[str, int], list[str]]:
    """Fly once with nodes that are started for it, whatever flies; arguments as of `fly_over_ros`.

    Returns:
        The flight, the controller's counters, and what a reader should know.
    """
    try:
        from hmpc_ros.ros import local_flight
        from hmpc_ros.ros.flight_topics import FlightRecording
        from hmpc_ros.ros.trials import TRIALS
    except ImportError as error:
        raise ros_is_missing(error) from error
    simulator = configuration['simulator']
    paced = simulator['real_time_factor'] > 0
    interface = TRIALS[configuration['controller']['policy.kind']].interface
    recordings = [] if record is None else [FlightRecording(record, interface)]
    local = local_flight.fly(
        nodes, steps, float(simulator['time_step']), interface=interface,
        listeners=[*listeners, *recordings], hold_missing=paced, reader=reader, progress=progress,
    )  # fmt: skip
    notes = []
    if local.record.held:
        notes.append(f'{len(local.record.held)} commands did not arrive in time and were held')
    if local.record.repeated_states:
        notes.append(f'{local.record.repeated_states} states were sent again')
    notes += [each.problem for each in recordings if each.problem]
    return local, controller_counts(local.diagnostics, lockstep=not paced), notes


def ros_is_missing(error: ImportError) -> ValueError:
    """Return the error that says what to do without ROS."""
    return ValueError(
        f'ROS 2 is not here ({error}): source its setup file, or install the wheels with '
        f'`make setup`, or fly without it: hmpc fly --offline'
    )


def controller_told(diagnostics: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return what the controller tells in its diagnostics, nothing if it told nothing."""
    return next((values for name, values in diagnostics.items() if 'controller' in name), {})


def times_told(answer_times: np.ndarray, told: Mapping[str, str]) -> dict[str, float | None]:
    """Return latency and solve times [ms] as `hmpc fly --json` names them.

    ``answer_times`` are those from states to their commands [s]; ``told``: see `controller_told`.
    """
    times = 1e3 * answer_times
    median, p99 = np.percentile(times, (50, 99)).tolist() if len(times) else (None, None)
    found = {'latency_ms.median': median, 'latency_ms.p99': p99}
    for name, key in (('median', 'solve time median [ms]'), ('p99', 'solve time 99 % [ms]')):
        if key in told:
            found[f'solve_ms.{name}'] = float(told[key])
    return found


def controller_counts(
    diagnostics: Mapping[str, Mapping[str, str]], *, lockstep: bool
) -> dict[str, int]:
    """Read the controller's counters from its diagnostics."""
    told = controller_told(diagnostics)
    counts = {key: int(told[key]) for key in ('failures', 'fallbacks') if key in told}
    if lockstep and 'fallbacks' in counts:
        # Nothing that answers no state is flown in lockstep.
        counts['fallbacks'] -= int(told.get('fallbacks: state timeout', 0))
    return counts


def finite(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers for JSON: what is not finite becomes null."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in numbers.items()
    }


def summary(flown: Flown, outcome: Outcome, configuration: Configuration) -> dict[str, Any]:
    """Return the numbers of a flight, for JSON; what is not finite becomes null."""
    flight = flown.flight
    limits = build.limits(configuration['controller'])
    distance = float(np.linalg.norm(flight.deviations[-1, :3]))
    known = flown.timing[np.isfinite(flown.timing)]
    median, p99 = np.percentile(known, (50, 99)) if len(known) else (np.nan, np.nan)
    return finite({
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
    })  # fmt: skip
