"""Flies a vehicle behind an autopilot along a reference, with controller and adapter that run here.

The controller waits where its reference begins (``reference.begin`` lies far ahead) until the
adapter has taken over and the vehicle is at rest there; then the reference begins, and what is
flown is recorded. An autopilot's states come when they come: a flight is what they say at the
control periods in between.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.executors import Executor
from rclpy.node import Node

from hmpc_ros.configuration.tracking_tables import NEVER
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.rigid_body import NU, NX, POSITION, VELOCITY
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.ros.aligned_log import HOLE, AlignedLog
from hmpc_ros.ros.autopilot_client import AutopilotClient
from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import NANOSECONDS
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.local_flight import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    Progress,
    RunningNodes,
    single_threaded,
)
from hmpc_ros.ros.recorder import FlightRecorder
from hmpc_ros.ros.runner import LocalRunner, Reader
from hmpc_ros.ros.spinning import open_node
from hmpc_ros.ros.stamped import Stamped
from hmpc_ros.ros.trial_lease import LEASE

ANSWERS = 5.0  # s that an autopilot has to be heard
LEAD = 0.5  # s between the word that a reference begins and its beginning
# At rest where the reference begins: nearer than this [m] and slower [m/s], for so long [s].
NEAR, SLOW, REST = 0.15, 0.15, 0.5
SETTLE_TIMEOUT = 30.0  # s
TAKEN_OVER = 'taken over'


class NotEngagedError(RuntimeError):
    """The vehicle was not taken over, or is not any more; the message says why."""


@dataclass(frozen=True, eq=False)
class VehicleFlight:
    """A flight of a vehicle.

    Attributes:
        flight: what was flown, states as the autopilot estimates them.
        begin: stamp of its first state, where the reference began [s].
        signatures: of what its commands were found with.
        latencies: from a state to its command [s].
        problems: what is missing of its record, in sentences.
    """

    flight: TrackedFlight
    begin: float
    signatures: frozenset[str]
    latencies: Sequence[float]
    problems: tuple[str, ...]


class VehicleFlights(RunningNodes):
    """Engages, flies references, and hands back.

    Args:
        runner: of controller and adapter.
        node: of this process.
        executor: which spins it.
        adapter: the adapter's node.
    """

    def __init__(
        self, runner: LocalRunner, node: Node, executor: Executor, adapter: str
    ) -> None:
        super().__init__(runner, node, executor)
        self._client = AutopilotClient(node, executor, adapter)
        self._waiting = NEVER
        self._stamp, self._state = 0, np.full(NX, np.nan)  # of the newest odometry
        # Latency is measured where messages are sent, free of this process's delays.
        self._recorder = FlightRecorder(
            node, interface=RATES, source_times=True, on_state=self._on_state
        )
        self._heard = Stamped(truth=False)
        self._heard.since = math.inf
        self._heard.listen(node)

    def _on_state(self, stamp: int, state: np.ndarray) -> None:
        self._stamp, self._state = stamp, state

    # -- the take-over -------------------------------------------------------------------------

    @property
    def told(self) -> Mapping[str, str]:
        """What the adapter told last, by name."""
        return self._client.told

    @property
    def phase(self) -> str:
        """Where the take-over stands."""
        return self.told.get('phase', '')

    @property
    def battery(self) -> float:
        """Charge from 0 to 1; NaN: unknown."""
        return float(self.told.get('battery', 'nan'))

    def wait_for_autopilot(self) -> None:
        """Wait until the adapter hears the autopilot.

        Raises:
            NotEngagedError: it does not, within `ANSWERS`.
        """
        if not self.spin_until(lambda: bool(self.told), CONNECT_TIMEOUT):
            raise NotEngagedError(f'the adapter says nothing for {CONNECT_TIMEOUT:g} s')
        if not self.spin_until(lambda: self.told['connected'] == 'true', ANSWERS):
            raise NotEngagedError(f'no answer within {ANSWERS:g} s: {self.told["refusals"]}')

    def wait_until_ready(self, patience: float, say: Callable[[str], None]) -> None:
        """Wait until it may be engaged, and say what is missing whenever that changes.

        Raises:
            NotEngagedError: something was missing for all of ``patience`` [s].
        """
        said = ''

        def ready() -> bool:
            nonlocal said
            missing = self.told['refusals'].split('; ')[0]
            if missing and re.sub(r'[\d.]+', '', missing) != said:
                said = re.sub(r'[\d.]+', '', missing)
                say(f'waiting: {missing}')
            return self.phase in ('ready', TAKEN_OVER)

        if not self.spin_until(ready, patience):
            raise NotEngagedError(
                f'not ready to engage within {patience:g} s: {self.told["refusals"]}'
            )

    def engage(self) -> None:
        """Take over.

        Raises:
            NotEngagedError: it is refused, or the autopilot does not go along.
        """
        self.wait_at_beginning()  # the observer has watched a vehicle that others flew
        end = time.monotonic() + ANSWER_TIMEOUT
        while not (answer := self._client.ask('engage', ANSWER_TIMEOUT))[0]:
            # To begin anew may have cost a good step, of which some in a row are needed.
            if time.monotonic() > end:
                raise NotEngagedError(f'it does not engage: {answer[1]}')
            self.spin_until(lambda: False, 0.2)
        if not self.spin_until(
            lambda: self.phase not in ('ready', 'engaging'), ANSWER_TIMEOUT
        ) or self.phase != TAKEN_OVER:
            raise NotEngagedError(f'it was not taken over: {self.told["why"]}')

    def hand_back(self) -> None:
        """Give control back to the autopilot's hold, where it is had."""
        if self.phase in ('engaging', TAKEN_OVER):
            self._client.ask('hand_back', ANSWER_TIMEOUT)
        # Also where the adapter has begun to, by itself.
        self.spin_until(lambda: self.phase in ('', 'waiting', 'ready'), ANSWER_TIMEOUT)

    # -- flights -------------------------------------------------------------------------------

    def wait_at_beginning(self, kept: Mapping[str, Any] | None = None) -> None:
        """Have the controller bring the vehicle to where its reference begins, and wait there.

        Args:
            kept: parameters of the controller that stay from now on.
        """
        self._waiting += 1.0  # only a new value begins anew
        staying = {**kept, LEASE: 0.0} if kept else {}
        self.set_parameters('controller', {**staying, 'reference.begin': self._waiting})

    def settle(self, reference: Reference) -> None:
        """Wait until the vehicle rests where the reference begins.

        Raises:
            NotEngagedError: it does not, or control was lost.
        """
        place = reference.sample(np.zeros(1)).position[0]
        since: float | None = None

        def rests() -> bool:
            nonlocal since
            distance = float(np.linalg.norm(self._state[POSITION] - place))
            if self.phase != TAKEN_OVER:
                return True
            if not (distance < NEAR and np.linalg.norm(self._state[VELOCITY]) < SLOW):
                since = None
            elif since is None:
                since = time.monotonic()
            return since is not None and time.monotonic() - since >= REST

        came = self.spin_until(rests, SETTLE_TIMEOUT)
        if self.phase != TAKEN_OVER:
            raise NotEngagedError(f'control was lost: {self.told["why"]}')
        if not came:
            distance = np.linalg.norm(self._state[POSITION] - place)
            raise NotEngagedError(
                f'the vehicle does not come to rest where the reference begins: it is '
                f'{distance:.2f} m away after {SETTLE_TIMEOUT:g} s'
            )

    def fly(
        self,
        reference: Reference,
        steps: int,
        period: float,
        lent: Mapping[str, Any] | None = None,
        lease: float = math.inf,
        progress: Progress = lambda _stage, _step: None,
    ) -> VehicleFlight:
        """Fly the reference once, from a hover where it begins.

        It ends early where control is lost; ``ended`` of the flight says why.

        Args:
            reference: the controller's.
            steps: T.
            period: of control [s].
            lent: what is learned of the controller's parameters, lent as the reference begins: what
                was kept last comes back by itself when this process does not renew it
                (`hmpc_ros.ros.trial_lease`). None: it flies what it has.
            lease: how long what is lent outlives this process [s].
            progress: is called with the stage and the step reached.
        """
        begin = 1e-9 * self._stamp + LEAD
        first, heard = round(NANOSECONDS * begin), self._heard
        log = AlignedLog(steps, period)
        log.begin(first)
        self._recorder.record(log)
        heard.forget()
        heard.since = first - NANOSECONDS * HOLE
        on_loan = {**lent, LEASE: lease} if lent else {}
        self.set_parameters('controller', {**on_loan, 'reference.begin': begin})

        def over() -> bool:
            progress('flying', log.steps_recorded)
            return log.over or self.phase != TAKEN_OVER

        # The adapter hands back where no state comes: this ends whatever happens.
        while not self.spin_until(over, min(lease / 4, CONNECT_TIMEOUT)):
            if on_loan:
                self.set_parameters('controller', on_loan)
        self.spin_until(lambda: False, 0.1)  # answers that are still on their way
        self._recorder.record(None)
        heard.since = math.inf
        states, inputs = log.beginning()
        if not len(states):
            states, inputs = np.full((1, NX), np.nan), np.empty((0, NU))
        flight = heard.flight(
            states, inputs, log.stamps(len(states)), reference, period, steps,
            '' if log.over and self.phase == TAKEN_OVER else self.told['why'],
        )  # fmt: skip
        return VehicleFlight(
            flight, 1e-9 * first, log.signatures, log.answer_times, tuple(log.problems())
        )


@contextlib.contextmanager
def open_vehicle(
    nodes: Sequence[NodeSpec],
    adapter: str,
    *,
    reader: Reader | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[VehicleFlights]:
    """Start controller and adapter, and end them after the last flight; control is handed back.

    Raises:
        NodeDiedError, DiscoveryError: see `LocalRunner`.
    """
    with (
        LocalRunner(nodes, reader=reader, environment=environment) as runner,
        runner.joined(),
        open_node('vehicle_flight', executor_of=single_threaded) as (node, executor),
    ):
        flights = VehicleFlights(runner, node, executor, adapter)
        try:
            yield flights
        finally:
            flights.hand_back()
