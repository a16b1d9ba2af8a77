"""Flies with node processes on this machine, and records what is flown."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node

from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.ros.command_interface import ROTORS, CommandInterface
from hmpc_ros.ros.flight_log import FlightLog, IncompleteFlightError, RecordedFlight
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.parameter_client import ParameterClient
from hmpc_ros.ros.procedure import Patience, Procedure, Signal
from hmpc_ros.ros.qos import RELIABLE
from hmpc_ros.ros.recorder import FlightRecorder
from hmpc_ros.ros.reset_client import ResetClient, ResetRefusedError
from hmpc_ros.ros.runner import DiscoveryError, LocalRunner, Reader
from hmpc_ros.ros.spinning import open_node

# The controller compiles its solver at its first start on a machine.
CONNECT_TIMEOUT = 180.0  # s
# Wall-clock time without a new step after which a flight is given up.
STALL_TIMEOUT = 15.0  # s
# What messages get that are still on their way when the last state is there.
GRACE = 1.0  # s
# What a node gets to answer about its parameters.
ANSWER_TIMEOUT = 15.0  # s
# Diagnostics come about once a second.
DIAGNOSTICS_TIMEOUT = 2.5  # s

Progress = Callable[[str, int], None]
T = TypeVar('T')


class Listener(Protocol):
    """What listens beside the recorder of states and commands."""

    def listen(self, node: Node) -> None:
        """Subscribe with the recording node."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, eq=False)
class LocalFlight:
    """A recorded flight and what the controller says about it."""

    record: RecordedFlight  #: states and commands
    #: last values of ``/diagnostics`` by status name
    diagnostics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wall_time: float = 0.0  #: how long the flight took [s]
    signatures: frozenset[str] = frozenset()  #: of what its commands were found with


def fly(
    nodes: Sequence[NodeSpec],
    steps: int,
    time_step: float,
    *,
    interface: CommandInterface = ROTORS,
    listeners: Sequence[Listener] = (),
    hold_missing: bool = False,
    reader: Reader | None = None,
    progress: Progress = lambda _stage, _step: None,
    environment: Mapping[str, str] | None = None,
) -> LocalFlight:
    """Start the nodes, fly one flight, and end the nodes.

    Args:
        nodes: what to start; the simulator should begin paused and hold after ``steps`` steps.
        steps: T.
        time_step: of the simulator [s].
        interface: of the vehicle that is flown.
        listeners: listen to more than states and commands, from before the flight to its end.
        hold_missing: see `FlightLog.flight`; for flights at the pace of the wall clock.
        reader: receives the nodes' output, see `LocalRunner`.
        progress: is called with the stage ("starting", "flying") and the step reached.
        environment: variables to add for the nodes and for this process's part in their graph.

    Raises:
        NodeDiedError: a node ended before its time.
        DiscoveryError: the nodes did not get to talk.
        IncompleteFlightError: the flight stalled, or messages are missing.
    """
    progress('starting', 0)
    with open_flights(
        nodes, interface=interface, listeners=listeners, reader=reader, environment=environment
    ) as flights:
        flown = flights.fly(steps, time_step, hold_missing=hold_missing, progress=progress)
        return replace(flown, diagnostics=flights.diagnostics())


@contextlib.contextmanager
def open_flights(
    nodes: Sequence[NodeSpec],
    *,
    interface: CommandInterface = ROTORS,
    listeners: Sequence[Listener] = (),
    reader: Reader | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[LocalFlights]:
    """Start the nodes, and end them after the last flight; arguments and errors as for `fly`."""
    with (
        LocalRunner(nodes, reader=reader, environment=environment) as runner,
        runner.joined(),
        open_node('flight_recorder', executor_of=single_threaded) as (node, executor),
        contextlib.ExitStack() as stack,
    ):
        for listener in listeners:
            stack.callback(listener.close)
            listener.listen(node)
        flights = LocalFlights(runner, node, executor, interface)
        flights.connect(CONNECT_TIMEOUT)
        yield flights


def single_threaded(context: Context) -> Executor:
    """Return an executor that gives callbacks the time at which a message was sent."""
    return SingleThreadedExecutor(context=context)


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the context.

    A KeyboardInterrupt that is raised while rclpy's C++ code calls back into Python can come out of
    it as a SystemError or be lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class RunningNodes:
    """Talks to nodes that run: their parameters, and what they report of themselves.

    Does so by a node of this process and the executor that spins it.
    """

    def __init__(self, runner: LocalRunner, node: Node, executor: Executor) -> None:
        self._runner, self._node, self._executor = runner, node, executor
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._reports = 0
        self._patience = Patience()
        self._remotes: dict[str, ParameterClient] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._reports += 1
        for status in message.status:
            self._diagnostics[status.name] = {pair.key: pair.value for pair in status.values}

    def spin_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Spin until ``done()``, for at most ``timeout`` seconds; return whether it is done."""
        deadline = time.monotonic() + timeout
        checked = 0.0
        while not done():
            with _interrupt_deferred():
                self._executor.spin_once(timeout_sec=0.05)
            now = time.monotonic()
            if now - checked > 0.1:  # a look at every process is a system call each
                checked = now
                self._runner.check()
            if now > deadline:
                return False
        return True

    def set_parameters(self, node: str, values: Mapping[str, Any]) -> None:
        """Change parameters of a node, all or none.

        Raises:
            RefusedError: it refuses; the message is its reason.
            NoAnswerError: it does not answer.
        """
        self._ask(self._remote(node).set(values))

    def parameters(self, node: str, names: Sequence[str]) -> dict[str, Any]:
        """Return parameters of a node by name; raises NoAnswerError."""
        return self._ask(self._remote(node).get(names))

    def _remote(self, node: str) -> ParameterClient:
        """Return what asks a node, as soon as it is there."""
        if node not in self._remotes:
            self._remotes[node] = ParameterClient(
                self._node, node, TABLES[node], self._patience, ANSWER_TIMEOUT
            )
        self.spin_until(lambda: self._remotes[node].ready, ANSWER_TIMEOUT)
        return self._remotes[node]

    def _ask(self, question: Coroutine[Signal, None, T]) -> T:
        """Spin until a question is answered."""
        answers: list[T] = []
        ended: list[BaseException | None] = []

        async def ask() -> None:
            answers.append(await question)

        def over() -> bool:
            self._patience.check()
            return bool(ended)

        Procedure(ask(), ended.append)
        self.spin_until(over, math.inf)
        if ended[0] is not None:
            raise ended[0]
        return answers[0]

    def diagnostics(self) -> Mapping[str, Mapping[str, str]]:
        """Return what nodes report of themselves, with all that was flown until now."""
        # The counts of a whole flight are in the first report that was made after it.
        seen = self._reports
        self.spin_until(lambda: self._reports > seen, DIAGNOSTICS_TIMEOUT)
        return self._diagnostics


class LocalFlights(RunningNodes):
    """Flies with nodes that run, one flight after the other; the node is the recorder's."""

    def __init__(
        self, runner: LocalRunner, node: Node, executor: Executor, interface: CommandInterface
    ) -> None:
        super().__init__(runner, node, executor)
        self._recorder = FlightRecorder(node, interface=interface, source_times=True)
        self._reset = ResetClient(node)

    def connect(self, timeout: float) -> None:
        """Wait until simulator and controller talk; raises DiscoveryError."""
        runner, recorder = self._runner, self._recorder
        runner.wait_until_discovered(self._node, timeout)

        def connected() -> bool:
            return bool(recorder.states_heard and recorder.inputs_heard and self._reset.ready)

        if not self.spin_until(connected, timeout):
            heard = (
                f'{recorder.states_heard} states and {recorder.inputs_heard} commands were heard'
            )
            raise DiscoveryError(
                f'simulator and controller did not get to talk within {timeout:g} s ({heard}); '
                + '; '.join(f'{s.name} wrote: {runner.output(s.name)[-3:]}' for s in runner.nodes)
            )

    def fly(
        self,
        steps: int,
        time_step: float,
        *,
        hold_missing: bool = False,
        progress: Progress = lambda _stage, _step: None,
    ) -> LocalFlight:
        """Fly once, from a reset of the simulator on; arguments and errors as of the module's."""
        log = FlightLog(steps, time_step)
        self._recorder.record(log)
        answer = self._reset.ask()
        started = False
        begun = time.monotonic()
        progress('flying', 0)
        moved = begun
        while not log.complete:
            before = log.steps_recorded
            self.spin_until(lambda: log.complete, timeout=0.1)
            if answer.done() and not started:
                try:
                    log.begin(self._reset.begun(answer.result())[0])
                except (ResetRefusedError, ValueError) as error:
                    raise IncompleteFlightError(str(error)) from error
                started = True
            if log.steps_recorded > before:
                moved = time.monotonic()
                progress('flying', log.steps_recorded)
            if log.over and not self.spin_until(lambda: log.complete, GRACE):
                break
            if time.monotonic() - moved > STALL_TIMEOUT:
                raise IncompleteFlightError(
                    f'the flight stands still at step {log.steps_recorded} of {steps} for '
                    f'{STALL_TIMEOUT:g} s; {"; ".join(log.problems())}'
                )
        wall_time = time.monotonic() - begun
        progress('flying', log.steps_recorded)
        self._recorder.record(None)
        record = log.flight(hold_missing=hold_missing)
        return LocalFlight(record, {}, wall_time, log.signatures)
