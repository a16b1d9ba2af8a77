"""What a flight tells beside states and commands, kept by its stamps."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from scipy.interpolate import CubicSpline
from sensor_msgs.msg import JointState

from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.policy.tracking.observer import N_ESTIMATE
from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.qos import RECORDED, latched

_DISTURBED = ('_noise_std', 'measurement_delay')  # of the simulator: what sensors do wrong
_FEWEST = 2  # poses of a path


def truth_differs(simulator: Mapping[str, Any]) -> bool:
    """Return whether sensors do not tell the truth; those of an undisturbed vehicle do."""
    return any(np.any(v) for name, v in simulator.items() if name.endswith(_DISTURBED))


class Stamped:
    """Keeps ``estimates`` and ``reference_path``, and if asked for the ``ground_truth``.

    Attributes:
        since: estimates stamped before it [ns] are not kept.
    """

    def __init__(self, *, truth: bool) -> None:
        """Begin with nothing."""
        self.since = 0.0
        self._truth_is_wanted = truth
        self._estimates: dict[int, np.ndarray] = {}
        self._truth: dict[int, np.ndarray] = {}
        self._references: dict[int, CubicSpline] = {}

    def listen(self, node: Node) -> None:
        """Subscribe."""
        node.create_subscription(JointState, 'estimates', self._on_estimates, RECORDED)
        node.create_subscription(Path, 'reference_path', self._on_reference, latched(100))
        if self._truth_is_wanted:
            node.create_subscription(Odometry, 'ground_truth', self._on_truth, RECORDED)

    def _on_reference(self, message: Path) -> None:
        stamps = [nanoseconds(pose.header.stamp) for pose in message.poses]
        places = [(p.x, p.y, p.z) for p in (pose.pose.position for pose in message.poses)]
        if len(stamps) >= _FEWEST and np.all(np.diff(stamps) > 0):
            self._references[stamps[0]] = CubicSpline(
                np.array(stamps) - stamps[0], places, bc_type='natural'
            )

    def reference(self, stamps: Sequence[int]) -> np.ndarray:
        """Return where the vehicle was to be (T, 3) [m] at stamps [ns], as it was told by then.

        NaN where it was not; where a path has ended, its end.
        """
        begins = sorted(self._references)
        found = np.full((len(stamps), 3), np.nan)
        for row, stamp in zip(found, stamps, strict=True):
            known = bisect.bisect_right(begins, stamp)
            if known:
                begin = begins[known - 1]
                path = self._references[begin]
                row[:] = path(min(stamp - begin, path.x[-1]))
        return found

    def close(self) -> None:
        """Keep what has come."""

    def _on_estimates(self, message: JointState) -> None:
        stamp = nanoseconds(message.header.stamp)
        if stamp >= self.since:
            self._estimates[stamp] = np.array(message.position)

    def _on_truth(self, message: Odometry) -> None:
        state = np.empty(RATES.states)
        RATES.read_state(message, state)
        self._truth[nanoseconds(message.header.stamp)] = state

    def heard(self, estimate: int, state: int) -> bool:
        """Return whether the estimates and, if asked for, the truth of two stamps have come."""
        told = state in self._truth or not self._truth_is_wanted
        return estimate in self._estimates and told

    def flight(
        self,
        states: np.ndarray,
        inputs: np.ndarray,
        stamps: Sequence[int],
        reference: Reference,
        time_step: float,
        planned_steps: int,
        ended: str = '',
    ) -> TrackedFlight:
        """Return a flight along a reference; steps without estimates were not solved.

        States (t+1, 13) were measured, inputs are (t, 4); stamps [ns] are of the states, or of what
        was answered in each step; the reference's time 0 is that of the first state.
        """
        flown = len(inputs)
        estimates = self.estimates(stamps[:-1], N_ESTIMATE)
        others = tuple(np.flatnonzero(~np.isfinite(estimates).all(axis=1)).tolist())
        return TrackedFlight(
            time_step, self.truth(stamps, states), states, inputs,
            reference.sample(time_step * np.arange(flown + 1)), estimates, (),
            others, others, np.full(flown, np.nan), planned_steps, ended,
        )  # fmt: skip

    def forget(self) -> None:
        """Forget all that was heard until now."""
        for heard in (self._truth, self._estimates, self._references):
            heard.clear()

    def estimates(self, stamps: Sequence[int], length: int) -> np.ndarray:
        """Return the estimates (T, length) at stamps [ns]; NaN where there are none."""
        none = np.full(length, np.nan)
        found = [self._estimates.get(stamp, none) for stamp in stamps]
        return np.array(found).reshape(-1, length)

    def truth(self, stamps: Sequence[int], measured: np.ndarray) -> np.ndarray:
        """Return the true states (T, 13) at stamps [ns]; as measured where it is not told."""
        states = [self._truth.get(s, x) for s, x in zip(stamps, measured, strict=True)]
        return np.array(states)
