"""How long the controller takes from an odometry to its command, across processes and DDS."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from hmpc_ros.plant.kinds import ROTORS
from hmpc_ros.ros.conversions import nanoseconds, odometry_from_state
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.qos import RELIABLE
from hmpc_ros.ros.runner import DiscoveryError, LocalRunner
from hmpc_ros.ros.spinning import open_node

# A command that has not come by then is counted as lost.
LOST_AFTER = 1.0  # s
# Until the controller must have answered for the first time.
CONNECT_TIMEOUT = 180.0  # s


def measure(
    controller: NodeSpec,
    states: np.ndarray,
    rates: Sequence[float],
) -> dict[float, np.ndarray]:
    """Publish states (T, 12), one after the other, at given rates [Hz], and time the answers.

    Returns:
        By rate: the times [s] from publishing a state until its command was received, (T,); inf
        where none came.

    Raises:
        NodeDiedError, DiscoveryError: the controller did not get to work.
    """
    with (
        LocalRunner([controller]) as runner,
        runner.joined(),
        open_node('latency_probe') as (node, executor),
    ):
        probe = _Probe(node, executor)
        probe.connect(runner)
        return {rate: probe.run(states, rate) for rate in rates}


class _Probe:
    """Publishes odometry and notes when its command arrives."""

    def __init__(self, node: Node, executor: Executor) -> None:
        self._publisher = node.create_publisher(Odometry, 'odom', RELIABLE)
        node.create_subscription(JointState, 'rotor_command', self._on_command, RELIABLE)
        self._executor = executor
        self._odometry = Odometry()
        self._odometry.header.frame_id = 'map'
        self._odometry.child_frame_id = 'base_link'
        self._stamp = 0
        self._answered = 0
        self._arrival = 0.0

    def _on_command(self, command: JointState) -> None:
        self._arrival = time.perf_counter()
        self._answered = nanoseconds(command.header.stamp)

    def _ask(self, state: np.ndarray, timeout: float) -> float:
        """Publish a state; return the time until its command came, inf when it did not."""
        self._stamp += 1_000_000
        odometry_from_state(state, self._stamp, self._odometry)
        published = time.perf_counter()
        self._publisher.publish(self._odometry)
        while self._answered != self._stamp:
            if time.perf_counter() - published > timeout:
                return float('inf')
            self._executor.spin_once(timeout_sec=timeout)
        return self._arrival - published

    def connect(self, runner: LocalRunner) -> None:
        """Wait until the controller answers."""
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while self._ask(np.zeros(ROTORS.nx), 0.2) == float('inf'):
            runner.check()
            if time.monotonic() > deadline:
                raise DiscoveryError(f'the controller did not answer within {CONNECT_TIMEOUT:g} s')

    def run(self, states: np.ndarray, rate: float) -> np.ndarray:
        """Publish the states at a rate [Hz] and return the times (T,) [s]."""
        times = np.empty(len(states))
        due = time.perf_counter()
        for index, state in enumerate(states):
            time.sleep(max(0.0, due - time.perf_counter()))
            times[index] = self._ask(state, LOST_AFTER)
            due += 1.0 / rate
        return times
