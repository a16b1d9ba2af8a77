"""Flies one flight with node processes on this machine and records it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from hmpc_ros.ros.command_interface import ROTORS, CommandInterface
from hmpc_ros.ros.flight_log import FlightLog, IncompleteFlightError, RecordedFlight
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.recorder import FlightRecorder
from hmpc_ros.ros.reset_client import ResetClient, ResetRefusedError
from hmpc_ros.ros.runner import DiscoveryError, LocalRunner, Reader

# The controller compiles its solver at its first start on a machine.
CONNECT_TIMEOUT = 180.0  # s
# Wall-clock time without a new step after which a flight is given up.
STALL_TIMEOUT = 15.0  # s
# What messages get that are still on their way when the last state is there.
GRACE = 1.0  # s
# Diagnostics come about once a second.
DIAGNOSTICS_TIMEOUT = 2.5  # s

Progress = Callable[[str, int], None]
Listen = Callable[[Node], None]


@dataclass(frozen=True, eq=False)
class LocalFlight:
    """A recorded flight and what the controller says about it.

    Attributes:
        record: states and commands.
        diagnostics: last values of ``/diagnostics`` by status name.
        wall_time: how long the flight took [s].
    """

    record: RecordedFlight
    diagnostics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wall_time: float = 0.0


def fly(
    nodes: Sequence[NodeSpec],
    steps: int,
    time_step: float,
    *,
    interface: CommandInterface = ROTORS,
    listen: Listen = lambda _node: None,
    hold_missing: bool = False,
    reader: Reader | None = None,
    progress: Progress = lambda _stage, _step: None,
    connect_timeout: float = CONNECT_TIMEOUT,
    environment: Mapping[str, str] | None = None,
) -> LocalFlight:
    """Start the nodes, fly one flight, and end the nodes.

    Args:
        nodes: what to start; the simulator should begin paused and hold after ``steps`` steps.
        steps: T.
        time_step: of the simulator [s].
        interface: of the vehicle that is flown.
        listen: is called with the recording node before the flight, to subscribe to more.
        hold_missing: see `FlightLog.flight`; for flights at the pace of the wall clock.
        reader: receives the nodes' output, see `LocalRunner`.
        progress: is called with the stage ("starting", "flying") and the step reached.
        connect_timeout: [s] until everything must talk.
        environment: variables to add for the nodes and for this process's part in their graph.

    Raises:
        NodeDiedError: a node ended before its time.
        DiscoveryError: the nodes did not get to talk.
        IncompleteFlightError: the flight stalled, or messages are missing.
    """
    progress('starting', 0)
    with LocalRunner(nodes, reader=reader, environment=environment) as runner, runner.joined():
        context = Context()
        # Ctrl-C stays Python's, so that the runner's own end is in order.
        rclpy.init(context=context, args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = Node('flight_recorder', context=context, start_parameter_services=False)
            executor = SingleThreadedExecutor(context=context)
            executor.add_node(node)
            try:
                listen(node)
                return _record(
                    runner,
                    node,
                    executor,
                    interface,
                    steps,
                    time_step,
                    hold_missing,
                    progress,
                    connect_timeout,
                )
            finally:
                executor.remove_node(node)
                executor.shutdown()
                node.destroy_node()
        finally:
            context.try_shutdown()


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


def _record(
    runner: LocalRunner,
    node: Node,
    executor: Executor,
    interface: CommandInterface,
    steps: int,
    time_step: float,
    hold_missing: bool,
    progress: Progress,
    connect_timeout: float,
) -> LocalFlight:
    diagnostics: dict[str, dict[str, str]] = {}
    reports = 0

    def on_diagnostics(message: DiagnosticArray) -> None:
        nonlocal reports
        reports += 1
        for status in message.status:
            diagnostics[status.name] = {pair.key: pair.value for pair in status.values}

    node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, QoSProfile(depth=10))
    recorder = FlightRecorder(node, interface=interface, source_times=True)
    reset = ResetClient(node)

    def spin_until(done: Callable[[], bool], timeout: float) -> bool:
        """Spin until ``done()``, for at most ``timeout`` seconds; return whether it is done."""
        deadline = time.monotonic() + timeout
        checked = 0.0
        while not done():
            with _interrupt_deferred():
                executor.spin_once(timeout_sec=0.05)
            now = time.monotonic()
            if now - checked > 0.1:  # a look at every process is a system call each
                checked = now
                runner.check()
            if now > deadline:
                return False
        return True

    runner.wait_until_discovered(node, connect_timeout)

    def connected() -> bool:
        return bool(recorder.states_heard and recorder.inputs_heard and reset.ready)

    if not spin_until(connected, connect_timeout):
        heard = f'{recorder.states_heard} states and {recorder.inputs_heard} commands were heard'
        raise DiscoveryError(
            f'simulator and controller did not get to talk within {connect_timeout:g} s ({heard}); '
            + '; '.join(f'{s.name} wrote: {runner.output(s.name)[-3:]}' for s in runner.nodes)
        )

    log = FlightLog(steps, time_step)
    recorder.record(log)
    answer = reset.ask()
    started = False
    begun = time.monotonic()
    progress('flying', 0)
    moved = begun
    while not log.complete:
        before = log.steps_recorded
        spin_until(lambda: log.complete, timeout=0.1)
        if answer.done() and not started:
            try:
                log.begin(reset.begun(answer.result())[0])
            except (ResetRefusedError, ValueError) as error:
                raise IncompleteFlightError(str(error)) from error
            started = True
        if log.steps_recorded > before:
            moved = time.monotonic()
            progress('flying', log.steps_recorded)
        if log.over and not spin_until(lambda: log.complete, GRACE):
            break
        if time.monotonic() - moved > STALL_TIMEOUT:
            raise IncompleteFlightError(
                f'the flight stands still at step {log.steps_recorded} of {steps} for '
                f'{STALL_TIMEOUT:g} s; {"; ".join(log.problems())}'
            )
    wall_time = time.monotonic() - begun
    progress('flying', log.steps_recorded)
    # The counts of the whole flight are in the first report that was made after it.
    seen = reports
    spin_until(lambda: reports > seen, DIAGNOSTICS_TIMEOUT)
    return LocalFlight(log.flight(hold_missing=hold_missing), diagnostics, wall_time)
