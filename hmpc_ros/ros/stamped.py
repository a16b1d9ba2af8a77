"""What a flight tells beside states and commands, kept by its stamps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import nanoseconds

_HISTORY = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


class Stamped:
    """Keeps ``estimates`` of the controller and, if asked for, the simulator's ``ground_truth``."""

    def __init__(self, *, truth: bool) -> None:
        """Begin with nothing."""
        self._truth_is_wanted = truth
        self._estimates: dict[int, np.ndarray] = {}
        self._truth: dict[int, np.ndarray] = {}

    def listen(self, node: Node) -> None:
        """Subscribe."""
        node.create_subscription(JointState, 'estimates', self._on_estimates, _HISTORY)
        if self._truth_is_wanted:
            node.create_subscription(Odometry, 'ground_truth', self._on_truth, _HISTORY)

    def _on_estimates(self, message: JointState) -> None:
        self._estimates[nanoseconds(message.header.stamp)] = np.array(message.position)

    def _on_truth(self, message: Odometry) -> None:
        state = np.empty(RATES.states)
        RATES.read_state(message, state)
        self._truth[nanoseconds(message.header.stamp)] = state

    def heard(self, estimate: int, state: int) -> bool:
        """Return whether the estimates and, if asked for, the truth of two stamps have come."""
        told = state in self._truth or not self._truth_is_wanted
        return estimate in self._estimates and told

    def estimates(self, stamps: Sequence[int], length: int) -> np.ndarray:
        """Return the estimates (T, length) at stamps [ns]; NaN where there are none."""
        none = np.full(length, np.nan)
        return np.array([self._estimates.get(stamp, none) for stamp in stamps])

    def truth(self, stamps: Sequence[int], measured: np.ndarray) -> np.ndarray:
        """Return the true states (T, 13) at stamps [ns]; as measured where it is not told."""
        states = [self._truth.get(s, x) for s, x in zip(stamps, measured, strict=True)]
        return np.array(states)
