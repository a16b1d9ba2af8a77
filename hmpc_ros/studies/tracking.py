"""Flights of the tracking MPC over ROS 2, with the real nodes: one, or those that it learns by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration import build_tracking
from hmpc_ros.configuration.schema import validate_all
from hmpc_ros.configuration.signature import signature
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.configuration.tracking_tables import BETWEEN_FLIGHTS
from hmpc_ros.policy.tracking import flying
from hmpc_ros.ros.graph import PATIENT, NodeSpec, simulation
from hmpc_ros.studies.flying import controller_told, fly_nodes, nobody, ros_is_missing, times_told

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.plant.reference.protocol import Reference
    from hmpc_ros.ros.local_flight import Listener, LocalFlight, LocalFlights
    from hmpc_ros.ros.stamped import Stamped
    from hmpc_ros.studies.flying import Progress

# What messages get that are still on their way when a flight is over.
_GRACE = 5.0  # s


def fly_over_ros(
    configuration: Configuration,
    reference: Reference,
    steps: int,
    progress: Progress = nobody,
    *,
    rviz: bool = False,
    record: Path | None = None,
    listeners: Sequence[Listener] = (),
    reader: Callable[[str, str], None] | None = None,
) -> tuple[flying.TrackedFlight, dict[str, Any], float]:
    """Fly with node processes; arguments as of `studies.flying.fly_nodes`.

    Returns:
        The flight, what only nodes can tell, and how long it took [s].

    Raises:
        ValueError: ROS 2 is not installed.
        NodeDiedError, DiscoveryError, IncompleteFlightError: see `local_flight.fly`.
        RecordingError: nothing can be recorded.
    """
    try:
        from hmpc_ros.ros.stamped import Stamped, truth_differs
    except ImportError as error:
        raise ros_is_missing(error) from error

    heard = Stamped(truth=truth_differs(configuration['simulator']))
    local, counts, notes = fly_nodes(
        configuration, _nodes(configuration, steps, rviz=rviz), steps, progress=progress,
        record=record, reader=reader, listeners=[heard, *listeners],
    )  # fmt: skip
    flight = _tracked(local, heard, reference, float(configuration['simulator']['time_step']))
    if configuration['controller']['reference.kind'] == 'topic':
        flight = _along_what_was_told(flight, local, heard)
    values, record_times = controller_told(local.diagnostics), local.record.answer_times
    told = {
        **times_told(record_times[np.isfinite(record_times)], values),
        'missed_deadlines': int(values.get('missed deadlines', 0)),
        'held_commands': len(local.record.held),
        'notes': notes,
        **counts,
    }
    return flight, told, local.wall_time


@dataclass(eq=False)
class NodesFlyer:
    """Flies the requests of a training run with nodes that run.

    Each flight's parameters are set over ROS before it; afterwards every command of it is found to
    carry their signature.
    """

    flights: LocalFlights
    heard: Stamped
    reference: Reference
    steps: int
    time_step: float
    begun: int = field(default=0)  # flights of these nodes

    def __call__(self, request: FlightRequest) -> flying.TrackedFlight:
        """Fly a request; its number selects noise and wind, as it does offline.

        Raises:
            RefusedError: the controller refuses the parameters.
            NoAnswerError, NodeDiedError, IncompleteFlightError: it was not flown whole, or not with
                what it should be.
        """
        from hmpc_ros.ros.flight_log import IncompleteFlightError

        self.begun += 1
        begin = BETWEEN_FLIGHTS * self.begun
        lent = build_tracking.entries(request.theta)
        self.flights.set_parameters('controller', {**lent, 'reference.begin': begin})
        self.flights.set_parameters(
            'simulator', {'next_flight': request.number, 'next_start': begin}
        )
        found = self.flights.parameters('controller', list(CONTROLLER))
        expected = signature({**validate_all(CONTROLLER, found), **lent, 'reference.begin': begin})
        local = self.flights.fly(self.steps, self.time_step)
        if local.signatures != {expected}:
            raise IncompleteFlightError(
                f'flight {request.number} was not flown with the parameters that it was to be '
                'flown with: somebody else sets or commands the vehicle'
            )
        start, step = local.record.start, round(1e9 * self.time_step)
        last = (start + (self.steps - 1) * step, start + self.steps * step)
        self.flights.spin_until(lambda: self.heard.heard(*last), _GRACE)
        flight = _tracked(local, self.heard, self.reference, self.time_step)
        self.heard.forget()
        return flight


@contextmanager
def flyer_over_ros(
    configuration: Configuration,
    reference: Reference,
    steps: int,
    *,
    reader: Callable[[str, str], None] | None = None,
) -> Iterator[NodesFlyer]:
    """Start simulator and controller, and end them after the last flight.

    Raises:
        ValueError: ROS 2 is not installed, or the vehicle is paced by the clock.
        NodeDiedError, DiscoveryError: see `LocalRunner`.
    """
    try:
        from hmpc_ros.ros import local_flight
        from hmpc_ros.ros.command_interface import RATES
        from hmpc_ros.ros.stamped import Stamped, truth_differs
    except ImportError as error:
        raise ros_is_missing(error) from error

    if configuration['simulator']['real_time_factor'] > 0:
        raise ValueError(
            'the tracking MPC learns in lockstep: leave simulator.real_time_factor at 0'
        )
    heard = Stamped(truth=truth_differs(configuration['simulator']))
    nodes = _nodes(configuration, steps)
    with local_flight.open_flights(
        nodes, interface=RATES, listeners=[heard], reader=reader
    ) as flights:
        period = float(configuration['simulator']['time_step'])
        yield NodesFlyer(flights, heard, reference, steps, period)


def _nodes(configuration: Configuration, steps: int, *, rviz: bool = False) -> list[NodeSpec]:
    values = configuration.besides_file()
    values['simulator'].update(start_paused=True, episode_steps=steps, next_start=BETWEEN_FLIGHTS)
    values['controller']['reference.begin'] = BETWEEN_FLIGHTS
    if not configuration['simulator']['real_time_factor']:
        values['controller'].update(PATIENT)
    return simulation(configuration.path, values, rviz=rviz)


def _tracked(
    local: LocalFlight, heard: Stamped, reference: Reference, period: float
) -> flying.TrackedFlight:
    """Return what was recorded as a flight along a reference."""
    record = local.record
    steps = len(record.inputs)
    stamps = [record.start + k * round(1e9 * period) for k in range(steps + 1)]
    return heard.flight(record.states, record.inputs, stamps, reference, period, steps)


def _along_what_was_told(
    flight: flying.TrackedFlight, local: LocalFlight, heard: Stamped
) -> flying.TrackedFlight:
    """Return a flight with the reference that the controller said it tracks."""
    start, period = local.record.start, flight.time_step
    told = heard.reference([start + k * round(1e9 * period) for k in range(flight.steps + 1)])
    position = np.where(np.isfinite(told), told, flight.reference.position)
    velocity = np.gradient(position, period, axis=0)
    acceleration = np.gradient(velocity, period, axis=0)
    jerk = np.gradient(acceleration, period, axis=0)
    return replace(
        flight,
        reference=flight.reference._replace(
            position=position, velocity=velocity, acceleration=acceleration, jerk=jerk
        ),
    )
