"""Runs one node in one process: start, spin, and a clean end on Ctrl-C, SIGTERM or shutdown."""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

import rclpy
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from hmpc_ros.ros.parameter_door import ParameterDoor
from hmpc_ros.ros.runner import refuse_domain

try:  # halves the latency of a callback, where the distribution has it
    from rclpy.experimental import EventsExecutor
except ImportError:
    EventsExecutor = None

# Set for a node whose end is that of the process which started it, however that came to its end.
END_WITH_PARENT = 'HMPC_END_WITH_PARENT'

# The loop wakes this often [s] without an event, so that a signal or a shutdown is never missed.
WAKE_PERIOD = 0.1


def tell_start(node: Node, words: str, topics: Sequence[str]) -> None:
    """Log what a node goes to work with, and the topics' names after remapping and namespace.

    Call it when all topics are open: a ``qos_overrides.*`` that none of them has read by then names
    another topic, which ROS passes over without a word.
    """
    resolved = ', '.join(node.resolve_topic_name(topic) for topic in topics)
    node.get_logger().info(f'{words}; topics {resolved}')
    given = getattr(node, '_parameter_overrides', {})  # not public; only for this warning
    idle = [n for n in given if n.startswith('qos_overrides.') and not node.has_parameter(n)]
    if idle:
        node.get_logger().warning(
            f'no topic of this node reads {", ".join(sorted(idle))}: name it as it is resolved, '
            'namespace and all, for example qos_overrides.'
            f'{node.resolve_topic_name(topics[0])}.subscription.reliability'
        )


def make_executor(context: Context | None = None) -> Executor:
    """Return the fastest single-threaded executor of this ROS distribution, without nodes."""
    kind = SingleThreadedExecutor if EventsExecutor is None else EventsExecutor
    return kind(context=context)


@contextlib.contextmanager
def open_node(
    name: str, namespace: str = '', executor_of: Callable[[Context], Executor] = make_executor
) -> Iterator[tuple[Node, Executor]]:
    """Join ROS for a while with a node of this process, which spins its executor by itself.

    Ctrl-C stays Python's.

    Raises:
        ValueError: ``ROS_DOMAIN_ID`` is no domain.
    """
    refuse_domain(os.environ)
    context = Context()
    rclpy.init(context=context, args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node(
            name, namespace=namespace or None, context=context, start_parameter_services=False
        )
        executor = executor_of(context)
        executor.add_node(node)
        try:
            yield node, executor
        finally:
            executor.remove_node(node)
            executor.shutdown()
            node.destroy_node()
    finally:
        context.try_shutdown()


def spin(node: Node, until: Callable[[], bool] = lambda: False) -> None:
    """Serve the callbacks of ``node`` until ROS shuts down or ``until()`` says so.

    SIGINT and SIGTERM end it too, after the callback they meet: a KeyboardInterrupt inside it would
    be reported by the executor as a fatal error. A second signal does what it did before. The node
    is left to its owner; see `run`. To be called in the main thread.
    """
    signalled = False
    parent = os.getppid()
    tied = bool(os.environ.get(END_WITH_PARENT))

    def orphaned() -> bool:
        return tied and os.getppid() != parent

    def stop(*_: object) -> None:
        nonlocal signalled
        signalled = True
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    executor = make_executor()
    try:
        executor.add_node(node)
        # `spin()` of the events executor hung in rclpy 7.1.6 and 9.1.2, the wheels on PyPI.
        while node.context.ok() and not (signalled or orphaned() or until()):
            executor.spin_once(timeout_sec=WAKE_PERIOD)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        restore()
        with contextlib.suppress(KeyboardInterrupt):
            executor.remove_node(node)
            executor.shutdown()


def run(make_node: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Start the node, spin it to its end and return the exit code of the process.

    The node leaves its parameter services to `ParameterDoor`: ``start_parameter_services=False``.

    A node that refuses its configuration (ValueError, or rclpy's own refusal of a parameter) ends
    the process with that one sentence and exit code 1 instead of a traceback.
    """
    node: Node | None = None
    door: ParameterDoor | None = None
    try:
        # rclpy's own handlers take ROS from under a node that is still made, or still works with
        # it. Until it spins, either signal is a KeyboardInterrupt.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            refuse_domain(os.environ)
        except ValueError as refusal:
            print(f'error: {refusal}', file=sys.stderr)  # noqa: T201
            return 1
        rclpy.init(
            args=None if args is None else list(args),
            signal_handler_options=SignalHandlerOptions.NO,
        )
        try:
            node = make_node()
        except (ValueError, ParameterException) as refusal:
            print(f'error: {refusal}', file=sys.stderr)  # noqa: T201
            return 1
        door = ParameterDoor(node)
        # What exists now lives as long as the process: keep it out of the collector's way, whose
        # pauses would otherwise show as latency.
        gc.collect()
        gc.freeze()
        spin(node)
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            if door is not None:
                door.close()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
