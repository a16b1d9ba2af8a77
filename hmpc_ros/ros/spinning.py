"""Runs one node in one process: start, spin, and a clean end on Ctrl-C, SIGTERM or shutdown."""

import contextlib
import gc
import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

try:  # halves the latency of a callback, where the distribution has it
    from rclpy.experimental import EventsExecutor
except ImportError:
    EventsExecutor = None

# The loop wakes this often [s] without an event, so that a shutdown is never missed.
WAKE_PERIOD = 0.5


def make_executor(context: Context | None = None) -> Executor:
    """Return the fastest single-threaded executor of this ROS distribution, without nodes."""
    kind = SingleThreadedExecutor if EventsExecutor is None else EventsExecutor
    return kind(context=context)


def spin(node: Node, until: Callable[[], bool] = lambda: False) -> None:
    """Serve the callbacks of ``node`` until ROS shuts down or ``until()`` says so.

    SIGINT and SIGTERM end it without a traceback: the first as KeyboardInterrupt, the second as the
    shutdown that rclpy's own handler starts. The node is left to its owner; see `run`.
    """
    executor = make_executor()
    try:
        executor.add_node(node)
        # `spin()` of the events executor hung in the builds of design.md, section 5.
        while node.context.ok() and not until():
            executor.spin_once(timeout_sec=WAKE_PERIOD)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            executor.remove_node(node)
            executor.shutdown()


def run(make_node: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Start the node, spin it to its end and return the exit code of the process.

    A node that refuses its configuration (ValueError, or rclpy's own refusal of a parameter) ends
    the process with that one sentence and exit code 1 instead of a traceback.
    """
    node: Node | None = None
    try:
        rclpy.init(args=None if args is None else list(args))
        try:
            node = make_node()
        except (ValueError, ParameterException) as refusal:
            print(f'error: {refusal}', file=sys.stderr)  # noqa: T201
            return 1
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
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
