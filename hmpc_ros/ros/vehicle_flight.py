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
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from hmpc_ros.configuration.tracking_tables import NEVER
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.rigid_body import NU, NX, POSITION, QUATERNION, VELOCITY
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.policy.tracking.observer import N_ESTIMATE
from hmpc_ros.ros.autopilot_client import AutopilotClient
from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import NANOSECONDS, nanoseconds
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.local_flight import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    Progress,
    RunningNodes,
    single_threaded,
)
from hmpc_ros.ros.runner import LocalRunner, Reader
from hmpc_ros.ros.spinning import open_node
from hmpc_ros.ros.trial_lease import LEASE

ANSWERS = 5.0  # s that an autopilot has to be heard
LEAD = 0.5  # s between the word that a reference begins and its beginning
# At rest where the reference begins: nearer than this [m] and slower [m/s], for so long [s].
NEAR, SLOW, REST = 0.15, 0.15, 0.5
SETTLE_TIMEOUT = 30.0  # s
TAKEN_OVER = 'taken over'
_HISTORY = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


class NotEngagedError(RuntimeError):
    """The vehicle was not taken over, or is not any more; the message says why."""


@dataclass(eq=False)
class _Heard:
    """What was heard since a flight began, by stamps [ns]."""

    states: dict[int, np.ndarray] = field(default_factory=dict)
    commands: dict[int, np.ndarray] = field(default_factory=dict)
    estimates: dict[int, np.ndarray] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class VehicleFlight:
    """A flight of a vehicle.

    Attributes:
        flight: what was flown, states as the autopilot estimates them.
        signatures: of what its commands were found with.
        latencies: from a state to its command [s].
    """

    flight: TrackedFlight
    signatures: frozenset[str]
    latencies: Sequence[float]


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
        self._heard = _Heard()
        self._waiting = NEVER
        self._begin = math.inf  # stamp from which on it is recorded [ns]
        self._stamp, self._state = 0, np.full(NX, np.nan)  # of the newest odometry
        node.create_subscription(Odometry, 'odom', self._on_odometry, _HISTORY)
        node.create_subscription(TwistStamped, 'rates_command', self._on_command, _HISTORY)
        node.create_subscription(JointState, 'estimates', self._on_estimates, _HISTORY)

    # Latency is measured where messages are sent, free of this process's delays. rclpy looks at the
    # number of arguments to know that a callback wants the second one.

    def _on_odometry(self, message: Odometry, info: Mapping[str, Any]) -> None:
        state = np.empty(NX)
        try:
            RATES.read_state(message, state)
        except ValueError:
            return
        self._stamp, self._state = nanoseconds(message.header.stamp), state
        # One before the beginning, so that there is a state at the beginning.
        if self._stamp >= self._begin - 0.2 * NANOSECONDS:
            self._heard.states[self._stamp] = state
            self._heard.sent[self._stamp] = 1e-9 * info['source_timestamp']

    def _on_command(self, message: TwistStamped, info: Mapping[str, Any]) -> None:
        stamp, command = nanoseconds(message.header.stamp), np.empty(NU)
        heard = self._heard
        if stamp < self._begin - 0.2 * NANOSECONDS:
            return
        with contextlib.suppress(ValueError):
            RATES.read_command(message, command)
            heard.commands[stamp] = command
            if stamp >= self._begin:
                heard.signatures.add(message.header.frame_id)
        if stamp in heard.sent:
            heard.latencies.append(1e-9 * info['source_timestamp'] - heard.sent[stamp])

    def _on_estimates(self, message: JointState) -> None:
        stamp = nanoseconds(message.header.stamp)
        if stamp >= self._begin - 0.2 * NANOSECONDS:
            self._heard.estimates[stamp] = np.array(message.position)

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
        done, words = self._client.ask('engage', ANSWER_TIMEOUT)
        if not done:
            raise NotEngagedError(f'it does not engage: {words}')
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
        first, step = round(NANOSECONDS * begin), NANOSECONDS * period
        self._heard, self._begin = _Heard(), first
        on_loan = {**lent, LEASE: lease} if lent else {}
        self.set_parameters('controller', {**on_loan, 'reference.begin': begin})
        last = first + steps * step

        def over() -> bool:
            progress('flying', max(0, min(steps, int((self._stamp - first) / step))))
            return self._stamp >= last or self.phase != TAKEN_OVER

        # The adapter hands back where no state comes: this ends whatever happens.
        while not self.spin_until(over, min(lease / 4, CONNECT_TIMEOUT)):
            if on_loan:
                self.set_parameters('controller', on_loan)
        self.spin_until(lambda: False, 0.1)  # answers that are still on their way
        heard, self._begin, ended = self._heard, math.inf, ''
        flown = steps
        if self._stamp < last or self.phase != TAKEN_OVER:
            ended = self.told['why']
            flown = max(0, min(steps, int((max(heard.states, default=first) - first) / step)))
        return VehicleFlight(
            _tracked(heard, reference, first, flown, steps, period, ended),
            frozenset(heard.signatures),
            heard.latencies,
        )


def _tracked(
    heard: _Heard,
    reference: Reference,
    first: int,
    flown: int,
    planned: int,
    period: float,
    ended: str,
) -> TrackedFlight:
    """Return what was heard as a flight whose step k is ``first`` [ns] + k ``period`` [s].

    States are interpolated, commands and estimates are those that were given last.
    """
    stamps = sorted(heard.states)
    times = period * np.arange(flown + 1)
    states = np.full((flown + 1, NX), np.nan)
    if stamps:
        known = np.array([heard.states[stamp] for stamp in stamps])
        # Interpolated, q and -q are not the same: each on the side of the one before.
        turns = np.sign((known[1:, 6:10] * known[:-1, 6:10]).sum(axis=1))
        known[1:, 6:10] *= np.cumprod(np.where(turns < 0, -1.0, 1.0))[:, None]
        seconds = (np.array(stamps) - first) * 1e-9
        states = np.column_stack([np.interp(times, seconds, column) for column in known.T])
        states[:, QUATERNION] /= np.linalg.norm(states[:, QUATERNION], axis=1, keepdims=True)
    inputs = _held(heard.commands, NU, first, times[:-1])
    estimates = _held(heard.estimates, N_ESTIMATE, first, times[:-1])
    answered = sorted(heard.commands)
    places = np.searchsorted(answered, first + NANOSECONDS * times[:-1], side='right') - 1
    others = tuple(
        k
        for k, place in enumerate(places.tolist())
        if place < 0 or answered[place] not in heard.estimates
    )
    return TrackedFlight(
        period, states, states, inputs, reference.sample(times), estimates, (), others, others,
        np.full(flown, np.nan), planned, ended,
    )  # fmt: skip


def _held(
    values: Mapping[int, np.ndarray], width: int, first: int, times: np.ndarray
) -> np.ndarray:
    """Return the values (T, width) that were the last ones at times [s]; NaN before the first."""
    stamps = sorted(values)
    rows = np.array([np.full(width, np.nan), *(values[stamp] for stamp in stamps)])
    return rows[np.searchsorted(stamps, first + NANOSECONDS * times, side='right')]


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
