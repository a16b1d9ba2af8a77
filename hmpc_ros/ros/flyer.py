"""Flies the requests of a training run with a vehicle over ROS, one after the other.

What `hmpc_ros.learning.rollout.OfflineFlyer` does by calculation, this does by topics and services:
give the controller the weights, bring the vehicle to the start, record T steps, and make sure that
what was recorded was flown under these weights from the first step to the last.

Weights on trial are only ever lent to the controller (`hmpc_ros.ros.lender`): they are gone as soon
as this process is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from hmpc_ros.configuration.schema import validate_all
from hmpc_ros.configuration.signature import FLOWN, signature
from hmpc_ros.configuration.tables import CONTROLLER, SIMULATOR
from hmpc_ros.learning.requests import FlightRequest
from hmpc_ros.learning.safety import Envelope
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.ros.aligned_log import HOLE, AlignedLog
from hmpc_ros.ros.command_interface import CommandInterface
from hmpc_ros.ros.flight_log import FlightLog, IncompleteFlightError
from hmpc_ros.ros.lender import Lender
from hmpc_ros.ros.parameter_client import NoAnswerError, ParameterClient, RefusedError, call
from hmpc_ros.ros.procedure import Patience, Signal
from hmpc_ros.ros.recorder import FlightRecorder
from hmpc_ros.ros.reset_client import ResetClient, ResetRefusedError
from hmpc_ros.ros.timings import Stopwatch
from hmpc_ros.ros.trial_lease import LEASE
from hmpc_ros.ros.trials import TRIALS, Trials

# What messages get that are still on their way when the last state is there.
GRACE = 1.0  # s
# How often it is looked whether somebody is there.
POLL_PERIOD = 0.1  # s
# How long a second controller is waited for to go: longer than DDS takes a killed one for alive.
RIVAL_PATIENCE = 25.0  # s
# Two values that say the same.
_SAME = 1e-12

Say = Callable[[str], None]


class NotFlownError(RuntimeError):
    """A flight was not flown or not recorded whole, and should be flown again."""


class OutOfReachError(NotFlownError):
    """Controller or vehicle do not answer: wait for them before the next attempt."""


class NotAloneError(OutOfReachError):
    """Somebody else commands the vehicle, too: wait until he is gone before the next attempt."""


@dataclass(eq=False)
class _Recording:
    """The flight that is under way."""

    log: FlightLog | AlignedLog
    signature: str  # of what it is to be flown with
    answered: Signal[int] = field(default_factory=Signal)  # the first stamp that is, by that
    rivals: str = ''  # who else commanded the vehicle
    over: Signal[str] = field(default_factory=Signal)  # the breach that ended it, or empty
    first: int | None = None
    steps: int = -1
    ending: bool = False
    # States from before the first stamp was known; then stamps that were watched.
    early: list[tuple[int, NDArray[np.float64]]] = field(default_factory=list)
    watched: set[int] = field(default_factory=set)
    violation: float = 0.0


class RosFlyer:
    """Flies requests over ROS. All coroutines are for one `procedure.Procedure` at a time.

    Args:
        node: the learner's.
        settings: values of the learner's table.
        patience: ends waits; its ``check`` is called by whoever calls `tick`.
        say: receives what a user should know.

    Attributes:
        envelope: where a flight is cut short.
        stopwatch: where the time goes.
        weights: sets those of the controller.
    """

    def __init__(
        self, node: Node, settings: Mapping[str, Any], patience: Patience, say: Say
    ) -> None:
        self._node = node
        self._settings = settings
        self._controller_name = node.resolve_topic_name(settings['controller'])
        self.envelope = Envelope()
        self._patience = patience
        self._say = say
        timeout = settings['service_timeout']
        self._controller = ParameterClient(
            node, settings['controller'], CONTROLLER, patience, timeout
        )
        self._resets = settings['reset'] == 'service'
        if self._resets:
            self._simulator = ParameterClient(
                node, settings['simulator'], SIMULATOR, patience, timeout
            )
            self._reset_client = ResetClient(node, settings['simulator'])
        self._trials: Any = None  # a `Trials`, from the first `connect` on
        self._newest: tuple[int, NDArray[np.float64]] | None = None
        self._state_heard: Signal[None] = Signal()
        self._recording: _Recording | None = None
        self._flown: dict[str, Any] = {}  # of the controller: what may change, as it was found
        self.stopwatch = Stopwatch()
        self.weights = Lender(
            self._controller, settings['lease'], lambda: self._trials.staying(), self.stopwatch
        )

    # -- getting to know each other ------------------------------------------------------------

    async def connect(self) -> dict[str, Any]:
        """Wait until controller and vehicle are there; return the controller's parameters.

        What the learner chooses itself, such as the goal, is among them as chosen.

        Raises:
            ValueError: the controller cannot be used as it is, or is not the only one.
        """
        if self._trials is None:  # one that comes back as another kind is refused by its values
            kind = (await self._ask_controller())['policy.kind']
            self._listen(TRIALS[kind](self._settings))
        await self._be_alone()
        values = await self._ask_controller()
        heard = self._recorder.states_heard
        while self._recorder.states_heard == heard or not self._reset_ready():
            missing = 'the reset service' if self._recorder.states_heard > heard else 'odometry'
            self._say(f'waiting for {missing}')
            await self._patience.sleep(POLL_PERIOD)
        while self._recorder.frame_id != values['frame_id']:
            self._say(
                f"waiting for odometry in '{values['frame_id']}', the controller's frame_id; it is "
                f"in '{self._recorder.frame_id}'"
            )
            await self._patience.sleep(POLL_PERIOD)
        self._flown = {name: values[name] for name in FLOWN}
        self._trials.listen(self._node, await self.ask_simulator())
        return self._trials.meet(values)

    @property
    def interface(self) -> CommandInterface:
        """Of what is flown; from `connect` on."""
        return self._trials.interface

    def _listen(self, trials: Trials) -> None:
        """Subscribe to what a kind of policy flies by; the controller stays of that kind."""
        self._trials = trials
        self._commands = self._node.resolve_topic_name(trials.interface.topic)
        self._recorder = FlightRecorder(
            self._node,
            interface=trials.interface,
            on_message=self._on_message,
            on_state=self._on_state,
            on_command=self._on_command,
        )

    async def _be_alone(self) -> None:
        """Wait until nobody but the controller commands the vehicle."""
        started = time.monotonic()
        while rivals := self._rivals():
            if time.monotonic() - started > RIVAL_PATIENCE:
                raise ValueError(f'{rivals}: stop one of them')
            self._say(f'waiting for one controller to be left: {rivals}')
            await self._patience.sleep(POLL_PERIOD)

    def _rivals(self) -> str:
        """Say who commands the vehicle where there is not just one; empty where there is."""
        publishers = sorted(
            f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            for info in self._node.get_publishers_info_by_topic(self._commands)
        )
        if len(publishers) > 1:
            return f'several nodes publish on {self._commands}: {", ".join(publishers)}'
        nodes = self._node.get_node_names_and_namespaces()
        names = [f'{namespace.rstrip("/")}/{name}' for name, namespace in nodes]
        count = names.count(self._controller_name)
        return f'{count} nodes are named {self._controller_name}' if count > 1 else ''

    async def _ask_controller(self) -> dict[str, Any]:
        while True:
            try:
                values = validate_all(CONTROLLER, await self._controller.get(CONTROLLER))
            except NoAnswerError as error:
                self._say(f'waiting for the controller: {error}')
                await self._patience.sleep(POLL_PERIOD)
                continue
            if values[LEASE] == 0:
                return values
            # Of a learner that died a moment ago, or of another one that is alive.
            self._say('waiting for the lease of the weights on trial to run out')
            await self._patience.sleep(POLL_PERIOD)

    def _reset_ready(self) -> bool:
        return not self._resets or self._reset_client.ready

    async def ask_simulator(self) -> dict[str, Any] | None:
        """Return the simulator's parameters, for the record only; None for a real vehicle."""
        if not self._resets:
            return None
        try:
            values = validate_all(SIMULATOR, await self._simulator.get(SIMULATOR))
        except (NoAnswerError, ValueError):
            return None
        return self._trials.simulated(values)

    # -- weights -------------------------------------------------------------------------------

    def policy(self, parameters: Parameters) -> dict[str, Any]:
        """Return the controller's parameters that are learned for a policy's."""
        return self._trials.lent(parameters)

    def tick(self) -> None:
        """Renew the lease of weights on trial, and look who else commands the vehicle.

        To be called from a timer.
        """
        recording = self._recording
        if recording is not None and self._node.count_publishers(self._commands) > 1:
            recording.rivals = recording.rivals or self._rivals()
        self.weights.renew()

    # -- flights -------------------------------------------------------------------------------

    async def fly(self, request: FlightRequest) -> Any:
        """Fly a request; afterwards the accepted weights are on their way to the controller.

        A flight that leaves the safety envelope is cut short at once, and says so in ``ended``; so
        does one whose weights the controller refuses.

        Raises:
            NotFlownError: it was not flown or recorded whole, or not with what it should be.
            OutOfReachError: controller or vehicle do not answer.
            NotAloneError: somebody else commanded the vehicle, too.
        """
        trials, recording = self._trials, None
        try:
            if not self._resets:
                await self._fly_to_start()
            newest = None if self._newest is None else self._newest[0]
            weights = trials.lent(request.parameters)
            beside = trials.chosen(request.task, newest)
            lent = {**weights, **beside}
            log = trials.log()
            recording = _Recording(log, signature({**self._flown, **lent}))
            self._recording = recording
            self._recorder.record(log)
            try:
                await self.weights.lend(weights, beside)
            except RefusedError as error:
                return self._not_begun(f'the controller refused the weights: {error}')
            if self._resets:
                await self._reset(request.number)
            else:
                await self._begin_where_answered(recording)
            breach = await self._record()
            await self._check_flown_with(recording, lent)
            if breach:
                if log.hole is not None:  # what was breached may be another flight's envelope
                    raise IncompleteFlightError('; '.join(log.problems()))
                states, inputs = log.beginning()
                inputs = inputs.reshape(-1, trials.interface.inputs)
                return await self._flight(
                    states, inputs, f'cut short at step {len(inputs)}: {breach}'
                )
            record = log.flight()
            return await self._flight(record.states, record.inputs)
        except (NoAnswerError, RefusedError, IncompleteFlightError, NotFlownError) as error:
            rivals = '' if recording is None else recording.rivals or self._rivals()
            if rivals:
                raise NotAloneError(rivals) from error
            if isinstance(error, NotFlownError):
                raise
            kind = OutOfReachError if isinstance(error, NoAnswerError) else NotFlownError
            raise kind(str(error)) from error
        finally:
            self._recording = None
            self._recorder.record(None)
            self.weights.restore_at_once()

    async def _flight(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64], ended: str = ''
    ) -> Any:
        """Return a record of the flight, once everything about it has come."""
        assert self._recording is not None
        stamps = self._recording.log.stamps(len(states))
        deadline = time.monotonic() + GRACE
        while not self._trials.heard(stamps):
            if time.monotonic() > deadline:
                raise NotFlownError('not all that the controller tells of a flight was heard')
            await self._patience.sleep(0.0)
        return self._trials.flight(states, inputs, stamps, ended)

    def _not_begun(self, reason: str) -> Any:
        interface, newest = self._trials.interface, self._newest
        state = np.full(interface.states, np.nan) if newest is None else newest[1]
        return self._trials.flight(state[None], np.empty((0, interface.inputs)), (), reason)

    async def _reset(self, number: int) -> None:
        """Have the simulator begin flight ``number``."""
        assert self._recording is not None
        started = time.monotonic()
        if values := self._trials.reset(number):
            await self._set_simulator(values)
        for _ in range(2):
            response = await call(
                self._reset_client.client,
                self._reset_client.request,
                self._patience,
                self._settings['service_timeout'],
            )
            try:
                first, flown = self._reset_client.begun(response)
            except ResetRefusedError as error:
                raise NotFlownError(str(error)) from error
            if flown in (None, number):
                break
            # A flight was repeated or the simulator restarted: its noise depends on the number.
            await self._set_simulator({'next_flight': number})
        else:
            raise NotFlownError(
                f'the simulator was to begin flight {number} and began {flown}, with other noise: '
                'does somebody else reset it?'
            )
        self.stopwatch.reset += time.monotonic() - started
        self._refuse_late(first, self._trials.time_step)
        self._begin(first)

    async def _set_simulator(self, values: Mapping[str, Any]) -> None:
        try:
            await self._simulator.set(values)
        except RefusedError as error:
            raise NotFlownError(f'the simulator refused {", ".join(values)}: {error}') from error

    def _refuse_late(self, first: int, allowed: float) -> None:
        late = 1e-9 * (first - self._trials.not_before)
        if self._trials.not_before and late >= allowed:
            raise NotFlownError(f'the flight began {late:.2f} s later than it was to begin')

    def _begin(self, first: int) -> None:
        recording = self._recording
        assert recording is not None
        recording.first = first
        recording.log.begin(first)
        for stamp, state in recording.early:
            self._watch(recording, stamp, state)

    async def _record(self) -> str:
        """Wait for the end of the flight; return the breach that ended it."""
        recording = self._recording
        assert recording is not None
        started = time.monotonic()
        timeout = self._settings['stall_timeout']
        try:
            return await self._patience.wait(recording.over, timeout, '')
        except TimeoutError as error:
            log = recording.log
            if log.over:  # everything but what was lost on the way is there
                raise IncompleteFlightError('; '.join(log.problems())) from error
            raise OutOfReachError(
                f'the flight stands still at step {log.steps_recorded} of {log.steps} for '
                f'{timeout:g} s'
            ) from error
        finally:
            self.stopwatch.flight += time.monotonic() - started

    def _on_state(self, stamp: int, state: NDArray[np.float64]) -> None:
        self._newest = (stamp, state)
        recording = self._recording
        if recording is None:
            heard, self._state_heard = self._state_heard, Signal()
            heard.set()
            return
        if recording.first is None:
            recording.early.append((stamp, state))
        else:
            self._watch(recording, stamp, state)

    def _watch(self, recording: _Recording, stamp: int, state: NDArray[np.float64]) -> None:
        """End the flight when a state of it leaves the safety envelope."""
        assert recording.first is not None
        age = 1e-9 * (stamp - recording.first)
        if not 0 <= age < (recording.log.steps + 0.5) * self._trials.time_step:
            return
        if stamp in recording.watched:
            return
        recording.watched.add(stamp)
        deviation = self._trials.deviation(state, age)
        recording.violation += float(self.envelope.excess(deviation))
        breach = self.envelope.breach(deviation, recording.violation)
        if breach:
            recording.over.set(breach)

    def _on_command(self, stamp: int, flown_with: str) -> None:
        recording = self._recording
        if recording is None or flown_with != recording.signature:
            return
        if stamp >= self._trials.not_before:
            recording.answered.set(stamp)

    def _on_message(self) -> None:
        recording = self._recording
        if recording is None or recording.first is None:
            return
        log = recording.log
        if log.complete:
            recording.over.set('')
        elif log.over:
            if not recording.ending:
                recording.ending = True
                self._patience.renew(GRACE)
        elif log.steps_recorded > recording.steps:
            recording.steps = log.steps_recorded
            self._patience.renew()

    async def _check_flown_with(self, recording: _Recording, lent: Mapping[str, Any]) -> None:
        """Raise NotFlownError unless every command was found with what was lent, and the task.

        It was not when the lease ran out, when the controller was restarted, or when somebody else
        sets it or commands the vehicle.
        """
        if rivals := recording.rivals or self._rivals():
            raise NotAloneError(rivals)
        others = recording.log.signatures - {recording.signature}
        if not others:
            return
        expected = {**self._flown, **lent}
        started = time.monotonic()
        flown = await self._controller.get(expected)
        self.stopwatch.parameters += time.monotonic() - started
        for name, value in expected.items():
            if np.size(flown[name]) != np.size(value) or np.any(
                np.abs(np.subtract(flown[name], value)) > _SAME
            ):
                raise NotFlownError(
                    f'{name} of the controller changed during the flight: the lease ran out, or '
                    'somebody else sets it'
                )
        if '' in others:
            raise NotFlownError(
                f'somebody else published on {self._commands} during the flight: commands came '
                "that are not the controller's"
            )
        raise NotFlownError(
            'the weights, goal or limits of the controller changed during the flight, and changed '
            'back: somebody else sets them'
        )

    # -- reset: fly ----------------------------------------------------------------------------

    async def _fly_to_start(self) -> None:
        """Fly to the start under the accepted weights, and wait until the vehicle has settled."""
        started = time.monotonic()
        await self.weights.restore()
        arrived: int | None = None
        complained = started
        while True:
            await self._next_state()
            assert self._newest is not None
            stamp, state = self._newest
            distance, speed = self._trials.from_start(state)
            if (
                distance > self._settings['settle.position']
                or speed > self._settings['settle.velocity']
            ):
                arrived = None
            elif arrived is None:
                arrived = stamp
            if arrived is not None and stamp - arrived >= 1e9 * self._settings['settle.time']:
                break
            now = time.monotonic()
            if now - complained > self._settings['settle.timeout']:
                complained = now
                self._say(f'still {distance:.2f} m from the start after {now - started:.0f} s')
        self.stopwatch.reset += time.monotonic() - started

    async def _next_state(self) -> None:
        try:
            timeout = self._settings['stall_timeout']
            await self._patience.wait(self._state_heard, timeout, '')
        except TimeoutError as error:
            raise OutOfReachError(f'no odometry for {timeout:g} s') from error

    async def _begin_where_answered(self, recording: _Recording) -> None:
        """Let the flight begin with the first state that is answered with what was lent.

        That is where weights and goal switch, whenever this process hears of it. One along a
        reference begins where that does, between two states if need be.
        """
        timeout, heard = self._settings['stall_timeout'], self._recorder.inputs_heard
        try:
            first = await self._patience.wait(recording.answered, timeout, '')
        except TimeoutError as error:
            if self._recorder.inputs_heard == heard:
                raise OutOfReachError(f'no command of the controller for {timeout:g} s') from error
            raise NotFlownError(
                f'no command was found with the weights lent within {timeout:g} s: somebody else '
                'sets the controller'
            ) from error
        self._refuse_late(first, HOLE)
        self._begin(self._trials.not_before or first)
