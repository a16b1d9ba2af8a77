"""Node ``visualizer``: the flown path, the vehicle and its goal, for RViz.

Publishes ``flown_path``, ``markers``, and the transform from ``map`` to ``base_link`` where
``tf2_msgs`` is installed. The controller's ``predicted_path`` needs nothing from here. The goal is
read from the controller's parameters, and followed when they change, also by ``goal_pose``; a
``goal_pose`` is shown at once where there is no such controller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.msg import ParameterEvent
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile, qos_profile_parameter_events
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from visualization_msgs.msg import MarkerArray

from hmpc_ros.configuration.tables import VISUALIZER
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.ros.conversions import goal_from_pose
from hmpc_ros.ros.markers import VehicleMarkers, goal_markers, jump
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.qos import LATCHED, RELIABLE
from hmpc_ros.ros.spinning import run, tell_start

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

PERIOD = 1 / 30  # s between two pictures, whatever the rate of the odometry
PATHS_EVERY = 6  # pictures between two flown paths
# Further than a vehicle flies between two odometry messages: it was put somewhere else.
JUMP = 1.0  # m
GOAL_NAMES = ('goal.position', 'goal.yaw')


class Visualizer(Node):
    """Turns odometry and goal into what RViz shows."""

    def __init__(self) -> None:
        """Declare the parameters and open the topics."""
        super().__init__('visualizer', start_parameter_services=False)
        self._settings = NodeParameters(self, VISUALIZER, dict, self._apply)
        self._odometry: Odometry | None = None
        self._news = False
        self._pictures = 0
        self._goal: Goal | None = None
        self._goal_values: dict[str, Any] = {}
        self._goal_asked: Future | None = None
        self._path: deque[PoseStamped] = deque(maxlen=self._settings['path_length'])
        self._vehicle: VehicleMarkers | None = None

        overridable = QoSOverridingOptions.with_default_policies
        self._path_publisher = self.create_publisher(
            Path, 'flown_path', LATCHED, qos_overriding_options=overridable()
        )
        self._marker_publisher = self.create_publisher(
            MarkerArray, 'markers', LATCHED, qos_overriding_options=overridable()
        )
        self._tf_publisher = None
        if TFMessage is None:
            self.get_logger().info('no TF: install ros-$ROS_DISTRO-tf2-msgs for the transform')
        else:
            self._tf_publisher = self.create_publisher(TFMessage, '/tf', QoSProfile(depth=100))
        self.create_subscription(
            Odometry, 'odom', self._on_odometry, RELIABLE, qos_overriding_options=overridable()
        )
        self.create_subscription(
            PoseStamped,
            'goal_pose',
            self._on_goal_pose,
            RELIABLE,
            qos_overriding_options=overridable(),
        )
        self.create_subscription(
            ParameterEvent, '/parameter_events', self._on_parameters, qos_profile_parameter_events
        )
        self._controller = AsyncParameterClient(self, 'controller')
        self._controller_name = f'{self.get_namespace().rstrip("/")}/controller'
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(PERIOD, self._on_picture, clock=steady)
        self.create_timer(1.0, self._ask_for_goal, clock=steady)
        tell_start(self, 'shows the flight', ('odom', 'goal_pose', 'flown_path', 'markers'))

    def _apply(self, values: Mapping[str, Any]) -> None:
        """Follow changed parameters."""
        self._path = deque(self._path, maxlen=values['path_length'])
        self._vehicle = None

    # -- what comes in -------------------------------------------------------------------------

    def _on_odometry(self, message: Odometry) -> None:
        """Keep the pose; a vehicle that was put somewhere else begins a new path."""
        last = self._odometry
        if last is not None:
            if last.header.stamp == message.header.stamp:
                return  # sent again
            if jump(last.pose.pose.position, message.pose.pose.position) > JUMP:
                self._path.clear()
        self._odometry = message
        self._path.append(PoseStamped(header=message.header, pose=message.pose.pose))
        self._news = True

    def _on_goal_pose(self, message: PoseStamped) -> None:
        """Show a goal that is asked for; the controller's parameters have the last word."""
        try:
            self._goal = goal_from_pose(message)
        except ValueError:
            return  # the controller says why
        self._news = True

    def _on_parameters(self, event: ParameterEvent) -> None:
        """Follow the controller's goal."""
        if event.node == self._controller_name:
            changed = [*event.new_parameters, *event.changed_parameters]
            self._take_goal({p.name: parameter_value_to_python(p.value) for p in changed})

    def _ask_for_goal(self) -> None:
        """Ask the controller for its goal until it has answered once."""
        if self._goal_asked is None and self._controller.services_are_ready():
            self._goal_asked = self._controller.get_parameters([*GOAL_NAMES, 'policy.kind'])
            self._goal_asked.add_done_callback(self._on_goal_answer)

    def _on_goal_answer(self, answer: Future) -> None:
        values = [parameter_value_to_python(value) for value in answer.result().values]
        # Who tracks a path has no goal until one is given.
        if values[len(GOAL_NAMES) :] != ['tracking']:
            self._take_goal(dict(zip(GOAL_NAMES, values, strict=False)))

    def _take_goal(self, values: Mapping[str, Any]) -> None:
        self._goal_values |= {name: values[name] for name in GOAL_NAMES if name in values}
        if all(self._goal_values.get(name) is not None for name in GOAL_NAMES):
            position, yaw = (self._goal_values[name] for name in GOAL_NAMES)
            self._goal = Goal(tuple(position), yaw)
            self._news = True

    # -- what goes out -------------------------------------------------------------------------

    def _on_picture(self) -> None:
        """Publish the present picture, if there is a new one."""
        odometry = self._odometry
        if odometry is None or not self._news:
            return
        self._news = False
        frame_id, stamp = odometry.header.frame_id, odometry.header.stamp
        arm = self._settings['arm_length']
        if self._vehicle is None:
            self._vehicle = VehicleMarkers(frame_id, arm)
        markers = self._vehicle.at(odometry.pose.pose)
        if self._goal is not None:
            markers = markers + goal_markers(frame_id, self._goal, arm)
        for marker in markers:
            marker.header.stamp = stamp
        self._marker_publisher.publish(MarkerArray(markers=markers))
        if self._tf_publisher is not None:
            transform = TransformStamped(
                header=odometry.header, child_frame_id=odometry.child_frame_id
            )
            position = odometry.pose.pose.position
            translation = transform.transform.translation
            translation.x, translation.y, translation.z = position.x, position.y, position.z
            transform.transform.rotation = odometry.pose.pose.orientation
            self._tf_publisher.publish(TFMessage(transforms=[transform]))
        if self._pictures % PATHS_EVERY == 0:
            self._path_publisher.publish(Path(header=odometry.header, poses=list(self._path)))
        self._pictures += 1


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(Visualizer, args)


if __name__ == '__main__':
    raise SystemExit(main())
