"""Flights of a vehicle behind an autopilot: controller and adapter run here, the vehicle flies."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.autopilots.takeover import BROKEN_BY_FLYING, PATIENCE
from hmpc_ros.configuration import build_tracking as build
from hmpc_ros.configuration import tracking_learner
from hmpc_ros.configuration.tracking_tables import NEVER
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.ros.graph import vehicle
from hmpc_ros.studies.flying import controller_told, nobody, ros_is_missing, times_told

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.training import TrainingRun
    from hmpc_ros.plant.reference.protocol import Reference
    from hmpc_ros.ros.vehicle_flight import VehicleFlights
    from hmpc_ros.studies.flying import Progress

Say = Callable[[str], None]


def silent(_words: str) -> None:
    """Say nothing."""


@contextlib.contextmanager
def open_vehicle(
    configuration: Configuration, adapter: str, *, reader: Callable[[str, str], None] | None = None
) -> Iterator[VehicleFlights]:
    """Start controller and adapter, and wait until the autopilot is heard.

    They talk in the ROS domain of the environment, so that ``hmpc autopilot hand-back`` in another
    terminal reaches them. ``reader`` is called with the name of a node and each line of its output.

    Raises:
        ValueError: ROS 2 is not installed.
        NotEngagedError: the autopilot is not heard.
        NodeDiedError: a node ended, and said why.
    """
    try:
        from hmpc_ros.ros import vehicle_flight
    except ImportError as error:
        raise ros_is_missing(error) from error
    given = configuration.besides_file()
    given['controller']['reference.begin'] = NEVER
    nodes = vehicle(adapter, configuration.path, given)
    domain = {'ROS_DOMAIN_ID': os.environ.get('ROS_DOMAIN_ID') or '0'}
    with vehicle_flight.open_vehicle(nodes, adapter, reader=reader, environment=domain) as flights:
        flights.wait_for_autopilot()
        yield flights


@dataclass(eq=False)
class VehicleFlyer:
    """Flies the requests of a training run with a vehicle behind an autopilot.

    Between two flights the vehicle is flown to where the reference begins, under the weights of the
    configuration. It is engaged once, as somebody began the run; whatever ends that, battery and
    pilot included, it waits until somebody engages again (``hmpc autopilot engage``), and goes on.
    A flight that a bound ended which weights can break counts as lost; any other is flown again.
    """

    flights: VehicleFlights
    configuration: Configuration
    reference: Reference
    steps: int
    say: Say = silent
    patience: float = PATIENCE
    engaged: float = field(default=-math.inf, init=False)  # since when [s]; -inf: not yet
    #: stamp at which the reference began in the last flight that was flown whole [s]
    begin: float = field(default=math.nan, init=False)

    def __call__(self, request: FlightRequest) -> TrackedFlight:
        """Fly a request to an end that it is to blame for.

        Raises:
            NotEngagedError: the vehicle was not ready in the first place.
            RefusedError, NoAnswerError, NodeDiedError: controller or adapter failed.
        """
        from hmpc_ros.ros.vehicle_flight import NotEngagedError

        controller, preset = self.configuration['controller'], build.assumed(self.configuration)
        own = build.entries(build.parameters(build.started(controller, preset), preset).theta)
        period = float(controller['time_step'])
        while True:
            self._be_engaged()
            try:
                self.flights.wait_at_beginning(own)
                self.flights.settle(self.reference)
            except NotEngagedError as error:
                self.flights.hand_back()
                self.say(f'{error}; engage again to go on: hmpc autopilot engage')
                continue
            lent = build.entries(request.theta)
            lease = float(self.configuration['learner']['lease'])
            flown = self.flights.fly(self.reference, self.steps, period, lent, lease)
            self.flights.wait_at_beginning(own)
            flight = flown.flight
            if flight.complete and len(flown.signatures) == 1 and not flown.problems:
                self.begin = flown.begin
                return flight
            # Without a state there is no solve either: that is no fault of the weights.
            flown_badly = any(name in flight.ended for name in BROKEN_BY_FLYING)
            if flight.steps and flown_badly and 'state_timeout' not in flight.ended:
                self.say(f'flight {request.number} is lost: {flight.ended}')
                return flight
            missing = '; '.join(flown.problems)
            why = flight.ended or missing or 'somebody else set the controller meanwhile'
            self.say(f'flight {request.number} is flown again: {why}')

    def _be_engaged(self) -> None:
        """Have control, with charge and time for a flight."""
        from hmpc_ros.ros.vehicle_flight import TAKEN_OVER

        flights = self.flights
        if self.engaged == -math.inf:
            flights.wait_until_ready(self.patience, self.say)
            flights.engage()
            self.engaged = time.monotonic()
        while True:
            empty = self._empty() if flights.phase == TAKEN_OVER else ''
            if flights.phase == TAKEN_OVER and not empty:
                return
            flights.hand_back()
            why = empty or flights.told['why']
            self.say(
                f'paused: {why}; land and change the battery if need be, take off, and engage: '
                'hmpc autopilot engage'
            )
            while not flights.spin_until(lambda: flights.phase == TAKEN_OVER, 1.0):
                pass
            self.engaged = time.monotonic()

    def _empty(self) -> str:
        """Say why there is no charge or time for another flight; empty: there is."""
        learner = self.configuration['learner']
        reserve, most = learner['vehicle.battery_reserve'], learner['vehicle.flight_time']
        if self.flights.battery < reserve:
            return (
                f'the battery has {100 * self.flights.battery:.0f} % left, '
                f'vehicle.battery_reserve is {100 * reserve:.0f} %'
            )
        flown = time.monotonic() - self.engaged
        needed = self.steps * float(self.configuration['controller']['time_step'])
        if 0.0 < most < flown + needed:
            return (
                f'it has flown for {flown:.0f} s, and another flight takes {needed:.0f} s: '
                f'vehicle.flight_time is {most:g} s'
            )
        return ''


def fly_vehicle(
    configuration: Configuration,
    adapter: str,
    reference: Reference,
    steps: int,
    progress: Progress = nobody,
    *,
    say: Say = silent,
    patience: float = PATIENCE,
    reader: Callable[[str, str], None] | None = None,
) -> tuple[TrackedFlight, dict[str, Any], float]:
    """Engage, fly the reference once, and hand back.

    ``say`` is called with what the pilot is waited for, who has ``patience`` [s] to be ready.

    Returns:
        The flight, as the autopilot estimates it; what else is told; how long it took [s].

    Raises:
        NotEngagedError: it was not taken over, or lost before the reference began.
        ValueError, NodeDiedError: see `open_vehicle`.
    """
    period = float(configuration['controller']['time_step'])
    progress('looking for the autopilot', 0)
    with open_vehicle(configuration, adapter, reader=reader) as flights:
        progress('waiting until ready', 0)
        flights.wait_until_ready(patience, say)
        progress('engaging', 0)
        flights.engage()
        flights.settle(reference)
        flown = flights.fly(reference, steps, period, progress=progress)
        adapter_told = dict(flights.told)
        flights.hand_back()
        diagnostics = flights.diagnostics()
    told: dict[str, Any] = {
        'mode': 'vehicle',
        'adapter': adapter,
        'errors_against': "the autopilot's estimate",
        'adapter_told': adapter_told,
        **times_told(np.array(flown.latencies), controller_told(diagnostics)),
    }
    return flown.flight, told, steps * period


@contextlib.contextmanager
def vehicle_flyer(
    configuration: Configuration,
    adapter: str,
    reference: Reference,
    steps: int,
    *,
    say: Say = silent,
    patience: float = PATIENCE,
    reader: Callable[[str, str], None] | None = None,
) -> Iterator[VehicleFlyer]:
    """Start controller and adapter for a training run; arguments as for `fly_vehicle`."""
    with open_vehicle(configuration, adapter, reader=reader) as flights:
        yield VehicleFlyer(flights, configuration, reference, steps, say, patience)


def learn_on_vehicle(
    configuration: Configuration,
    adapter: str,
    out: Path,
    *,
    say: Say = silent,
    patience: float = PATIENCE,
    reader: Callable[[str, str], None] | None = None,
    on_start: Callable[[TrainingRun], None] = lambda _run: None,
    on_record: Callable[[VehicleFlyer, TrainingRun, Record], None] = lambda *_: None,
    jobs: int = 1,
) -> TrainingRun:
    """Learn along the reference of a configuration; arguments as for `fly_vehicle`.

    Args:
        configuration: of controller, adapter and learner.
        adapter: its node.
        out: results folder; what flew best is there to be flown, in ``best_weights.yaml``.
        say: is called with what is to be done.
        patience: time in which the vehicle has to be ready to be engaged [s].
        reader: as for `open_vehicle`.
        on_start: is called with the run before its first flight.
        on_record: is called with who flies, the run, and each record that was kept.
        jobs: processes that rehearse.

    Raises:
        NotEngagedError: it was not taken over in the first place.
        ValueError, NodeDiedError, ResultsError: see `open_vehicle` and `tracking_learner.train`.
    """
    tracking_learner.refuse_other_rules(configuration['learner'])
    known = tracking_learner.teacher(configuration)
    with vehicle_flyer(
        configuration, adapter, known.reference, tracking_learner.steps(known),
        say=say, patience=patience, reader=reader,
    ) as fly:  # fmt: skip

        def keep(run: TrainingRun, record: Record) -> None:
            tracking_learner.write_best(run, known, out)
            on_record(fly, run, record)

        return tracking_learner.train(
            configuration, known, fly, out, on_start, keep, jobs, tracking_learner.VEHICLE_RADIUS
        )
