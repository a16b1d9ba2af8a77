"""Listens to a learner from another process: what `hmpc learn` and `hmpc watch` show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from hmpc_ros.ros.progress import COLUMNS, Progress, history_from_message, progress_from_message
from hmpc_ros.ros.qos import LATCHED
from hmpc_ros.ros.spinning import open_node


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
        node.create_subscription(DiagnosticArray, f'{learner}/progress', self._on_progress, LATCHED)
        node.create_subscription(Float64MultiArray, f'{learner}/history', self._on_history, LATCHED)

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
    name = f'monitor_{time.time_ns() % 1_000_000_000}'
    with open_node(name, namespace) as (node, executor):
        yield Monitor(node, executor, learner)
