"""`ros2 launch hmpc_ros simulation.launch.py` flies the vehicle to its goal and ends cleanly.

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
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from visualization_msgs.msg import MarkerArray

from hmpc_ros.share import launch_dir

GOAL = (-6.0, -3.5, 0.0)


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    simulation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_dir() / 'simulation.launch.py')),
        launch_arguments={'config': 'reference', 'visualizer': 'true'}.items(),
    )
    return LaunchDescription([simulation, launch_testing.actions.ReadyToTest()])


class TestFlight(unittest.TestCase):
    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('test_simulation', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def test_the_vehicle_reaches_its_goal_and_everything_is_published(self) -> None:
        heard: dict = {}
        for type_, topic in (
            (Odometry, 'odom'),
            (JointState, 'rotor_command'),
            (Path, 'predicted_path'),
            (Path, 'flown_path'),
            (MarkerArray, 'markers'),
        ):
            self.node.create_subscription(
                type_, topic, lambda message, topic=topic: heard.update({topic: message}), 10
            )

        def there() -> bool:
            if len(heard) < 5:
                return False
            at = heard['odom'].pose.pose.position
            return max(abs(a - b) for a, b in zip((at.x, at.y, at.z), GOAL, strict=True)) < 0.05

        deadline = time.monotonic() + 120
        while not there() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.1)
        assert there(), f'heard {sorted(heard)}, last {heard.get("odom")}'
        assert max(heard['rotor_command'].velocity) <= 630.0


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_node_ends_cleanly(self, proc_info: object) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
