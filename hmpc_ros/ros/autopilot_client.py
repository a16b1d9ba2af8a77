"""Asks an adapter for what it stands at, and to engage or hand back, from another process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from rclpy.executors import Executor
from rclpy.node import Node
from std_srvs.srv import Trigger

from hmpc_ros.ros.adapter import LATCHED
from hmpc_ros.ros.spinning import open_node

REFRESH = 0.1  # s


class AutopilotClient:
    """What an adapter tells; see `open_client`."""

    def __init__(self, node: Node, executor: Executor, adapter: str) -> None:
        self._node, self._executor, self._adapter = node, executor, adapter
        self._status: DiagnosticStatus | None = None
        node.create_subscription(DiagnosticStatus, f'{adapter}/takeover', self._on_status, LATCHED)

    def _on_status(self, message: DiagnosticStatus) -> None:
        self._status = message

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise ValueError(
                    f'no {self._adapter} answered within {seconds:g} s; does it run, and is '
                    'ROS_DOMAIN_ID right?'
                )
            self._executor.spin_once(timeout_sec=REFRESH)

    @property
    def told(self) -> dict[str, str]:
        """What the adapter told last, by name; empty before it has told anything."""
        return {} if self._status is None else {p.key: p.value for p in self._status.values}

    def status(self, seconds: float) -> DiagnosticStatus:
        """Return what the adapter tells about the take-over.

        Raises:
            ValueError: it told nothing in that time.
        """
        self._wait(lambda: self._status is not None, seconds)
        return self._status

    def ask(self, service: str, seconds: float) -> tuple[bool, str]:
        """Ask it to ``engage`` or to ``hand_back``; returns whether it does, and its words.

        Raises:
            ValueError: it did not answer in that time.
        """
        client = self._node.create_client(Trigger, f'{self._adapter}/{service}')
        self._wait(client.service_is_ready, seconds)
        future = client.call_async(Trigger.Request())
        self._wait(future.done, seconds)
        response = future.result()
        return bool(response.success), str(response.message)

    def go(self, place: Sequence[float], yaw: float, seconds: float) -> None:
        """Send the controller a place (ENU) [m] to fly to and hover at, with a heading [rad].

        Raises:
            ValueError: nobody heard it in that time.
        """
        pose = PoseStamped()
        at, turned = pose.pose.position, pose.pose.orientation
        at.x, at.y, at.z = map(float, place)
        turned.w, turned.z = math.cos(yaw / 2), math.sin(yaw / 2)
        publisher = self._node.create_publisher(PoseStamped, 'goal_pose', 1)
        end = time.monotonic() + seconds
        while not (
            publisher.get_subscription_count()
            and (publisher.publish(pose) or publisher.wait_for_all_acked(Duration(seconds=1.0)))
        ):
            if time.monotonic() > end:
                raise ValueError(f'no controller listens to goal_pose within {seconds:g} s')
            self._executor.spin_once(timeout_sec=REFRESH)


@contextmanager
def open_client(adapter: str, namespace: str = '') -> Iterator[AutopilotClient]:
    """Listen to an adapter, in the ROS domain of the environment.

    Raises:
        ValueError: ``ROS_DOMAIN_ID`` is no domain.
    """
    name = f'autopilot_client_{time.time_ns() % 1_000_000_000}'
    with open_node(name, namespace) as (node, executor):
        yield AutopilotClient(node, executor, adapter)
