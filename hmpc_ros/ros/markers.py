"""Markers of the vehicle and of its goal, for RViz."""

from __future__ import annotations

import math

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.ros.conversions import quaternion_from_euler

_DARK = ColorRGBA(r=0.15, g=0.15, b=0.17, a=1.0)
_ROTOR = ColorRGBA(r=0.55, g=0.6, b=0.68, a=0.9)
_FRONT = ColorRGBA(r=0.84, g=0.37, b=0.0, a=0.95)
_GOAL = ColorRGBA(r=0.0, g=0.62, b=0.45, a=0.85)


class VehicleMarkers:
    """The vehicle: two crossed arms and four rotors, the front one in orange."""

    def __init__(self, frame_id: str, arm_length: float) -> None:
        """Make the markers for a vehicle of that arm length [m]."""
        arm = float(arm_length)
        arms = _marker(frame_id, 'vehicle', 0, Marker.LINE_LIST, _DARK)
        arms.scale.x = 0.08 * arm
        for end in ((arm, 0.0), (0.0, arm)):
            arms.points += [Point(x=-end[0], y=-end[1], z=0.0), Point(x=end[0], y=end[1], z=0.0)]
        self._arms = arms
        # Front, right, back, left in the body frame (x forward, y left).
        self._centres = ((arm, 0.0), (0.0, -arm), (-arm, 0.0), (0.0, arm))
        self._rotors = []
        for k in range(4):
            rotor = _marker(frame_id, 'vehicle', k + 1, Marker.CYLINDER, _ROTOR if k else _FRONT)
            rotor.scale = Vector3(x=1.1 * arm, y=1.1 * arm, z=0.06 * arm)
            self._rotors.append(rotor)

    def at(self, pose: Pose) -> list[Marker]:
        """Return the markers with the vehicle at a pose."""
        position, q = pose.position, pose.orientation
        self._arms.pose = pose
        # First two columns of the rotation matrix: the body's x and y axis in the world.
        forward = (
            1 - 2 * (q.y * q.y + q.z * q.z),
            2 * (q.x * q.y + q.w * q.z),
            2 * (q.x * q.z - q.w * q.y),
        )
        left = (
            2 * (q.x * q.y - q.w * q.z),
            1 - 2 * (q.x * q.x + q.z * q.z),
            2 * (q.y * q.z + q.w * q.x),
        )
        for rotor, (x, y) in zip(self._rotors, self._centres, strict=True):
            rotor.pose.orientation = q
            rotor.pose.position = Point(
                x=position.x + x * forward[0] + y * left[0],
                y=position.y + x * forward[1] + y * left[1],
                z=position.z + x * forward[2] + y * left[2],
            )
        return [self._arms, *self._rotors]


def goal_markers(frame_id: str, goal: Goal, arm_length: float) -> list[Marker]:
    """Return the goal's markers: a ball where the vehicle is to hover, an arrow for its heading."""
    x, y, z, w = quaternion_from_euler(0.0, 0.0, goal.yaw)
    pose = Pose(
        position=Point(x=goal.position[0], y=goal.position[1], z=goal.position[2]),
        orientation=Quaternion(x=x, y=y, z=z, w=w),
    )
    arm = float(arm_length)
    ball = _marker(frame_id, 'goal', 0, Marker.SPHERE, _GOAL)
    ball.pose, ball.scale = pose, Vector3(x=0.5 * arm, y=0.5 * arm, z=0.5 * arm)
    arrow = _marker(frame_id, 'goal', 1, Marker.ARROW, _GOAL)
    arrow.pose, arrow.scale = pose, Vector3(x=2.0 * arm, y=0.15 * arm, z=0.15 * arm)
    return [ball, arrow]


def _marker(frame_id: str, space: str, number: int, kind: int, colour: ColorRGBA) -> Marker:
    marker = Marker(ns=space, id=number, type=kind, action=Marker.ADD, color=colour)
    marker.header.frame_id = frame_id
    marker.pose.orientation.w = 1.0
    # Drawn again from the latest transform in every frame: no flicker when RViz is behind.
    marker.frame_locked = True
    return marker


def jump(first: Point, second: Point) -> float:
    """Return the distance between two points [m]."""
    return math.dist((first.x, first.y, first.z), (second.x, second.y, second.z))
