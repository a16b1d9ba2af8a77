"""What a flight tells beside states and commands, kept by its stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import nanoseconds

_DISTURBED = ('_noise_std', 'measurement_delay')  # of the simulator: what sensors do wrong
_HISTORY = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


def truth_differs(simulator: Mapping[str, Any]) -> bool:
    """Return whether sensors do not tell the truth; those of an undisturbed vehicle do."""
    return any(np.any(v) for name, v in simulator.items() if name.endswith(_DISTURBED))


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

    def taken(
        self, stamps: Sequence[int], measured: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return truth and estimates of a flight, and forget all that was heard until now.

        Args:
            stamps: of the T+1 states [ns].
            measured: the states (T+1, 13).
            length: of the estimates.
        """
        found = self.truth(stamps, measured), self.estimates(stamps[:-1], length)
        self._truth.clear()
        self._estimates.clear()
        return found

    def estimates(self, stamps: Sequence[int], length: int) -> np.ndarray:
        """Return the estimates (T, length) at stamps [ns]; NaN where there are none."""
        none = np.full(length, np.nan)
        found = [self._estimates.get(stamp, none) for stamp in stamps]
        return np.array(found).reshape(-1, length)

    def truth(self, stamps: Sequence[int], measured: np.ndarray) -> np.ndarray:
        """Return the true states (T, 13) at stamps [ns]; as measured where it is not told."""
        states = [self._truth.get(s, x) for s, x in zip(stamps, measured, strict=True)]
        return np.array(states)
