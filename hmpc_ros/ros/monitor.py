"""Listens to a learner from another process: what `hmpc learn` and `hmpc watch` show."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Float64MultiArray

from hmpc_ros.ros.progress import (
    COLUMNS,
    Progress,
    history_from_message,
    progress_from_message,
)
from hmpc_ros.ros.runner import refuse_domain
from hmpc_ros.ros.spinning import make_executor


class Monitor:
    """The last that a learner told about itself; see `open_monitor`.

    Attributes:
        progress: its state, None before the first word.
        history: (iterations, 5): k, C, V, J, accepted.
        heard_at: when it said something last (monotonic clock) [s].
    """

    def __init__(self, node: Node, executor: Executor, learner: str) -> None:
        self.node = node
        self.progress: Progress | None = None
        self.history: NDArray[np.float64] = np.empty((0, len(COLUMNS)))
        self.heard_at = -np.inf
        self._executor = executor
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        node.create_subscription(DiagnosticArray, f'{learner}/progress', self._on_progress, latched)
        node.create_subscription(Float64MultiArray, f'{learner}/history', self._on_history, latched)

    def _on_progress(self, message: DiagnosticArray) -> None:
        self.progress = progress_from_message(message)
        self.heard_at = time.monotonic()

    def _on_history(self, message: Float64MultiArray) -> None:
        self.history = history_from_message(message)

    def listen(self, seconds: float) -> None:
        """Take in what comes within some seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


@contextmanager
def open_monitor(learner: str = 'learner', namespace: str = '') -> Iterator[Monitor]:
    """Listen to the learner of that name, in the ROS domain of the environment.

    Raises:
        ValueError: ``ROS_DOMAIN_ID`` is no domain.
    """
    refuse_domain(os.environ)
    context = Context()
    # Ctrl-C stays Python's.
    rclpy.init(context=context, args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node(
            f'monitor_{time.time_ns() % 1_000_000_000}',
            namespace=namespace or None,
            context=context,
            start_parameter_services=False,
        )
        executor = make_executor(context)
        executor.add_node(node)
        try:
            yield Monitor(node, executor, learner)
        finally:
            executor.remove_node(node)
            executor.shutdown()
            node.destroy_node()
    finally:
        context.try_shutdown()
