"""`ros2 launch hmpc_ros tracking.launch.py` flies the vehicle along its path and ends cleanly.

Runs where launch_testing is installed, with `launch_test` or with pytest and its launch_testing
plugin; the package must be built and sourced.
"""

import time
import unittest

import pytest

pytest.importorskip('launch_testing', reason='needs ROS 2 with launch_testing')
pytest.importorskip('launch_ros', reason='needs ROS 2 with launch_ros')

import launch_testing.actions
import launch_testing.asserts
import rclpy
from geometry_msgs.msg import TwistStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from visualization_msgs.msg import MarkerArray

from hmpc_ros.share import launch_dir


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    tracking = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_dir() / 'tracking.launch.py')),
        launch_arguments={
            'vehicle': 'crazyflie', 'trajectory': 'eight', 'backend': 'model',
            'real_time_factor': '0.0',
        }.items(),
    )  # fmt: skip
    return LaunchDescription([tracking, launch_testing.actions.ReadyToTest()])


class TestFlight(unittest.TestCase):
    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('test_tracking', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def test_the_vehicle_flies_both_wings_and_everything_is_published(self) -> None:
        heard: dict = {}
        reached = [0.0, 0.0]
        for type_, topic in (
            (TwistStamped, 'rates_command'),
            (Path, 'predicted_path'),
            (Path, 'flown_path'),
            (MarkerArray, 'markers'),
        ):
            self.node.create_subscription(
                type_, topic, lambda message, topic=topic: heard.update({topic: message}), 10
            )

        def on_odometry(message: Odometry) -> None:
            x = message.pose.pose.position.x
            reached[:] = min(reached[0], x), max(reached[1], x)

        self.node.create_subscription(Odometry, 'odom', on_odometry, 10)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            len(heard) == 4 and reached[0] < -1.3 and reached[1] > 1.3
        ):
            self.executor.spin_once(timeout_sec=0.1)
        assert reached[0] < -1.3, reached
        assert reached[1] > 1.3, reached
        assert len(heard) == 4, sorted(heard)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_node_ends_cleanly(self, proc_info: object) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
