"""The visualizer as its own process: what RViz is shown."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from geometry_msgs.msg import PoseStamped
from goal_poses import pose_from_goal
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from visualization_msgs.msg import Marker, MarkerArray

from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.ros.conversions import odometry_from_state
from hmpc_ros.ros.graph import simulation
from hmpc_ros.ros.runner import LocalRunner

pytestmark = pytest.mark.system

WAIT = 200.0  # s; a bound for what must happen, not a measurement
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Audience:
    """Publishes odometry and sees what the visualizer makes of it."""

    def __init__(self, runner: LocalRunner):
        self.runner = runner
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('audience', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.path = Path()
        self.markers: dict[tuple[str, int], Marker] = {}
        self.node.create_subscription(
            Path, 'flown_path', lambda path: setattr(self, 'path', path), LATCHED
        )
        self.node.create_subscription(MarkerArray, 'markers', self._on_markers, LATCHED)
        self.odometry = self.node.create_publisher(Odometry, 'odom', 10)
        self.goal = self.node.create_publisher(PoseStamped, 'goal_pose', 10)
        self.time = 0
        self.wait_for(self.odometry.get_subscription_count, 'the visualizer')

    def _on_markers(self, message: MarkerArray) -> None:
        self.markers = {(marker.ns, marker.id): marker for marker in message.markers}

    def wait_for(self, condition, what: str, act=lambda: None) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            self.runner.check()
            assert time.monotonic() < end, f'waited {WAIT:g} s for {what}'
            act()
            self.executor.spin_once(timeout_sec=0.05)

    def fly_to(self, x: float) -> None:
        self.time += 100_000_000
        message = Odometry()
        message.header.frame_id, message.child_frame_id = 'map', 'base_link'
        odometry_from_state(np.array([x] + [0.0] * 11), self.time, message)
        self.odometry.publish(message)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def audience():
    visualizer = simulation(parameters={'visualizer': {'path_length': 8}}, visualizer=True)[2]
    with LocalRunner([visualizer]) as runner:
        audience = Audience(runner)
        yield audience
        audience.close()


def test_path_vehicle_and_goal_are_shown(audience: Audience):
    place = iter(np.arange(0.0, 300.0, 0.3))
    audience.wait_for(
        lambda: len(audience.path.poses) == 8, 'a full path', lambda: audience.fly_to(next(place))
    )
    xs = [pose.pose.position.x for pose in audience.path.poses]
    assert np.diff(xs) == pytest.approx(0.3)
    assert audience.path.header.frame_id == 'map'

    # The front rotor is one arm ahead of the body, and sticks out in colour.
    assert {space for space, _ in audience.markers} == {'vehicle'}
    body, front, back = (audience.markers['vehicle', k] for k in (0, 1, 3))
    assert front.pose.position.x - body.pose.position.x == pytest.approx(0.225)
    assert back.pose.position.x - body.pose.position.x == pytest.approx(-0.225)
    assert front.color != back.color

    pose = PoseStamped()
    pose.header.frame_id = 'map'
    pose_from_goal(Goal((1.0, 2.0, 3.0), 0.5), pose)
    audience.wait_for(
        lambda: ('goal', 0) in audience.markers, 'the goal', lambda: audience.goal.publish(pose)
    )
    assert audience.markers['goal', 0].pose == pose.pose

    # A vehicle that is put back to the start begins a new path.
    audience.wait_for(
        lambda: {pose.pose.position.x for pose in audience.path.poses} == {0.0},
        'a new path',
        lambda: audience.fly_to(0.0),
    )


def test_the_goal_is_read_from_the_controller():
    overrides = {
        'simulator': {'real_time_factor': 4.0},
        'controller': {'goal.position': [1.0, 0.5, 0.25]},
    }
    with LocalRunner(simulation(parameters=overrides, visualizer=True)) as runner:
        audience = Audience(runner)
        try:
            audience.wait_for(lambda: ('goal', 0) in audience.markers, 'the goal')
            position = audience.markers['goal', 0].pose.position
            assert (position.x, position.y, position.z) == (1.0, 0.5, 0.25)
            # It follows when the goal moves.
            pose = PoseStamped()
            pose.header.frame_id = 'map'
            pose_from_goal(Goal((-1.0, 0.0, 0.0)), pose)
            audience.wait_for(audience.goal.get_subscription_count, 'the controller')
            audience.goal.publish(pose)
            audience.wait_for(
                lambda: audience.markers['goal', 0].pose.position.x == -1.0, 'the moved goal'
            )
        finally:
            audience.close()
