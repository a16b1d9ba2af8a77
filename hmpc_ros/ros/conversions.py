"""Messages to arrays and back: odometry, commands, paths, trajectories, goal, stamps.

The arithmetic between the frames of odometry and of the state is in `hmpc_ros.plant.odometry`.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Quaternion, Transform, Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from hmpc_ros.plant.odometry import (
    Four,
    Three,
    euler_from_quaternion,
    quaternion_from_euler,
    to_body,
    to_world,
)
from hmpc_ros.plant.quadcopter import INPUT_NAMES, NX
from hmpc_ros.policy.linear.goal import Goal

NANOSECONDS = 1_000_000_000
_FIRST_TIME, _LAST_TIME = -(2**31) * NANOSECONDS, 2**31 * NANOSECONDS - 1

# How far |q|^2 may be from 1. Single precision and a few multiplications stay far below it; a
# quaternion beyond it was not meant as a rotation (all zeros, mostly).
UNIT_TOLERANCE = 1e-3

# Of a trajectory on a topic: taking one in is done between two commands (9 us a point).
MOST_TRAJECTORY_POINTS = 1000

_ROTORS = list(INPUT_NAMES)
_NAN_STATE = [math.nan] * NX


class NotARotationError(ValueError):
    """A quaternion (x, y, z, w) that is not of unit length."""

    def __init__(self, x: float, y: float, z: float, w: float) -> None:
        length = math.hypot(x, y, z, w)
        super().__init__(
            f'the quaternion (x {x:g}, y {y:g}, z {z:g}, w {w:g}) has length {length:g}, not 1'
        )


def nanoseconds(stamp: Time) -> int:
    """Return a stamp as integer nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def set_stamp(stamp: Time, time: int) -> None:
    """Write integer nanoseconds into a stamp; beyond its range, the nearest stamp that there is.

    A message counts seconds in 32 bits (to the year 2038): what is predicted past their end must
    not come out as 1901.
    """
    stamp.sec, stamp.nanosec = divmod(min(max(time, _FIRST_TIME), _LAST_TIME), NANOSECONDS)


def state_from_odometry(message: Odometry, state: np.ndarray) -> None:
    """Write the state (12,) that an odometry message describes into ``state``.

    A quaternion with NaN or inf makes the whole state NaN: there is no part of it to fly on.

    Raises:
        NotARotationError: the orientation is finite but not of unit length; ``state`` is unchanged.
    """
    found = _read(message)
    if found is None:
        state[:] = _NAN_STATE
        return
    position, velocity, quaternion, rates = found
    state[:] = (*position, *velocity, *euler_from_quaternion(*quaternion), *rates)


def _read(message: Odometry) -> tuple[Three, Three, Four, Three] | None:
    """Return position, velocity (world), quaternion (xyzw) and body rates; None: no rotation.

    Raises:
        NotARotationError: see `_is_rotation`.
    """
    pose, twist = message.pose.pose, message.twist.twist
    position, q, linear, angular = pose.position, pose.orientation, twist.linear, twist.angular
    if not _is_rotation(q):
        return None
    quaternion = q.x, q.y, q.z, q.w
    return (
        (position.x, position.y, position.z),
        to_world(quaternion, linear.x, linear.y, linear.z),
        quaternion,
        (angular.x, angular.y, angular.z),
    )


def _is_rotation(q: Quaternion) -> bool:
    """Say whether a quaternion is a rotation; False: it holds NaN or inf.

    Raises:
        NotARotationError: it is finite but not of unit length.
    """
    x, y, z, w = q.x, q.y, q.z, q.w
    if abs(x * x + y * y + z * z + w * w - 1.0) <= UNIT_TOLERANCE:
        return True
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z) and math.isfinite(w)):
        return False
    raise NotARotationError(x, y, z, w)


def rigid_body_from_odometry(message: Odometry, state: np.ndarray) -> None:
    """Write the state (13,) that an odometry message describes into ``state``.

    A quaternion with NaN or inf makes the whole state NaN, as in `state_from_odometry`.

    Raises:
        NotARotationError: the orientation is finite but not of unit length; ``state`` is unchanged.
    """
    found = _read(message)
    if found is None:
        state[:] = math.nan
        return
    position, velocity, (x, y, z, w), rates = found
    state[:] = (*position, *velocity, w, x, y, z, *rates)


def odometry_from_rigid_body(state: np.ndarray, time: int, message: Odometry) -> None:
    """Write a state (13,) at ``time`` [ns] into an odometry message; its frame ids stay."""
    *position, vx, vy, vz, w, x, y, z, p, q, r = state.tolist()
    _write(message, time, position, (vx, vy, vz), (x, y, z, w), (p, q, r))


def odometry_from_state(state: np.ndarray, time: int, message: Odometry) -> None:
    """Write a state (12,) at ``time`` [ns] into an odometry message; its frame ids stay.

    The way back through `state_from_odometry` gives the same state (to 1e-12) as long as the angles
    are in its range.
    """
    *position, vx, vy, vz, roll, pitch, yaw, p, q, r = state.tolist()
    quaternion = quaternion_from_euler(roll, pitch, yaw)
    _write(message, time, position, (vx, vy, vz), quaternion, (p, q, r))


def _write(
    message: Odometry,
    time: int,
    position: Sequence[float],
    velocity: Three,
    quaternion: Four,
    rates: Three,
) -> None:
    """Write into an odometry message what `_read` reads; Python floats, as rclpy checks no others.

    A numpy or integer field would be sent as garbage.
    """
    set_stamp(message.header.stamp, time)
    pose, twist = message.pose.pose, message.twist.twist
    at, q, linear, angular = pose.position, pose.orientation, twist.linear, twist.angular
    at.x, at.y, at.z = position
    q.x, q.y, q.z, q.w = quaternion
    linear.x, linear.y, linear.z = to_body(quaternion, *velocity)
    angular.x, angular.y, angular.z = rates


def new_rotor_command() -> JointState:
    """Return a command with the rotors' names, for `set_rotor_speeds` to fill again and again."""
    return JointState(name=list(INPUT_NAMES), velocity=array('d', [0.0] * len(INPUT_NAMES)))


def set_rotor_speeds(speeds: np.ndarray, time: int, message: JointState) -> None:
    """Write rotor speeds (4,) [rad/s] that answer the odometry of ``time`` [ns] into a command.

    ``message`` comes from `new_rotor_command`.
    """
    set_stamp(message.header.stamp, time)
    velocity = message.velocity
    velocity[0], velocity[1], velocity[2], velocity[3] = speeds.tolist()


def rotor_speeds_from_joint_state(message: JointState, speeds: np.ndarray) -> None:
    """Write the rotor speeds (4,) [rad/s] of a command into ``speeds``, by name, in any order.

    Joints that are no rotors are ignored.

    Raises:
        ValueError: a rotor is missing or named twice, has no velocity, or one that is not finite;
            ``speeds`` is unchanged.
    """
    names, velocity = message.name, message.velocity
    if len(names) != len(velocity):
        raise ValueError(f'a command has {len(names)} names but {len(velocity)} velocities')
    if names == _ROTORS:
        values = velocity.tolist() if isinstance(velocity, array) else list(velocity)
    else:
        values = []
        for rotor in _ROTORS:
            if names.count(rotor) != 1:
                raise ValueError(
                    f'a command names {rotor} {names.count(rotor)} times, expected each of '
                    f'{", ".join(_ROTORS)} once; got {list(names)}'
                )
            values.append(velocity[names.index(rotor)])
    if not math.isfinite(sum(values)):
        raise ValueError(f'a command holds a rotor speed that is not finite: {values}')
    speeds[:] = values


def set_rates_command(command: np.ndarray, time: int, message: TwistStamped) -> None:
    """Write thrust [m/s^2] and body rates [rad/s] that answer the odometry of ``time`` [ns]."""
    set_stamp(message.header.stamp, time)
    twist = message.twist
    angular = twist.angular
    twist.linear.z, angular.x, angular.y, angular.z = command.tolist()


def rates_from_command(message: TwistStamped, command: np.ndarray) -> None:
    """Write the thrust [m/s^2] and the body rates [rad/s] of a command into ``command`` (4,).

    Raises:
        ValueError: one of them is not finite; ``command`` is unchanged.
    """
    angular = message.twist.angular
    values = (message.twist.linear.z, angular.x, angular.y, angular.z)
    if not math.isfinite(sum(values)):
        raise ValueError(f'a command holds a thrust or rate that is not finite: {list(values)}')
    command[:] = values


def new_path(frame_id: str, length: int) -> Path:
    """Return a path of ``length`` poses in a frame, to be filled again and again by `set_path`."""
    path = Path(poses=[PoseStamped() for _ in range(length)])
    path.header.frame_id = frame_id
    for pose in path.poses:
        pose.header.frame_id = frame_id
    return path


def set_path(states: np.ndarray, time: int, time_step: float, message: Path) -> None:
    """Write world states (N+1, 12) to a path, the first at ``time`` [ns], ``time_step`` [s] apart.

    ``message`` comes from `new_path` with as many poses.
    """

    def attitude(row: Sequence[Any]) -> Four:
        return quaternion_from_euler(row[6], row[7], row[8])

    _set_poses(states, attitude, time, time_step, message)


def set_rigid_body_path(states: np.ndarray, time: int, time_step: float, message: Path) -> None:
    """Write states (N+1, 10 or more), p, v, q (wxyz) first, to a path as `set_path` does."""

    def attitude(row: Sequence[Any]) -> Four:
        return row[7], row[8], row[9], row[6]

    _set_poses(states, attitude, time, time_step, message)


def planned_state(
    plan: np.ndarray, time: int, step: float, frame_id: str
) -> MultiDOFJointTrajectory:
    """Return the state that a plan (N+1, 14), ``step`` [s] apart, comes to after its first step.

    The message is stamped with the ``time`` [ns] of the state that it answers.

    Returns:
        One point: pose, velocity (world) [m/s] and rates (body) [rad/s], acceleration (world)
        [m/s^2] by the difference of the velocities before and after.
    """
    point = MultiDOFJointTrajectoryPoint(
        transforms=[Transform()], velocities=[Twist()], accelerations=[Twist()]
    )
    seconds, rest = divmod(round(NANOSECONDS * step), NANOSECONDS)
    point.time_from_start.sec, point.time_from_start.nanosec = seconds, rest
    state = plan[1].tolist()
    at, q = point.transforms[0].translation, point.transforms[0].rotation
    at.x, at.y, at.z = state[:3]
    q.w, q.x, q.y, q.z = state[6:10]
    linear, angular = point.velocities[0].linear, point.velocities[0].angular
    linear.x, linear.y, linear.z = state[3:6]
    angular.x, angular.y, angular.z = state[11:14]
    a = point.accelerations[0].linear
    a.x, a.y, a.z = ((plan[2, 3:6] - plan[0, 3:6]) / (2.0 * step)).tolist()
    message = MultiDOFJointTrajectory(joint_names=['base_link'], points=[point])
    message.header.frame_id = frame_id
    set_stamp(message.header.stamp, time)
    return message


def _set_poses(
    states: np.ndarray,
    attitude: Callable[[Sequence[Any]], Four],
    time: int,
    time_step: float,
    message: Path,
) -> None:
    set_stamp(message.header.stamp, time)
    step = round(time_step * NANOSECONDS)
    rows: Sequence[Sequence[Any]] = states.tolist()
    for row, stamped in zip(rows, message.poses, strict=True):
        set_stamp(stamped.header.stamp, time)
        time += step
        _set_pose(stamped, row, attitude(row))


def _set_pose(stamped: PoseStamped, position_first: Sequence[Any], quaternion: Four) -> None:
    position, orientation = stamped.pose.position, stamped.pose.orientation
    position.x, position.y, position.z = position_first[0], position_first[1], position_first[2]
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion


def points_from_trajectory(message: MultiDOFJointTrajectory) -> dict[str, Any]:
    """Return what a trajectory says of its one body, for `reference.splines.from_points`.

    Velocities and accelerations are those of the world frame, as MAV stacks send them; they are
    None unless every point has them.

    Returns:
        ``times`` (n,) [s], ``positions`` (n, 3) [m], ``velocities`` (n, 3) [m/s] or None,
        ``accelerations`` (n, 3) [m/s^2] or None, ``yaws`` (n,) [rad], without turns.

    Raises:
        ValueError: a point has no transform, or one that is no rotation; there are no points, or
            too many.
    """
    points = message.points
    if not 1 <= len(points) <= MOST_TRAJECTORY_POINTS:
        raise ValueError(
            f'a trajectory needs 1 to {MOST_TRAJECTORY_POINTS} points, got {len(points)}'
        )
    times, positions, yaws = [], [], []
    rates: dict[str, list] = {'velocities': [], 'accelerations': []}
    for index, point in enumerate(points):
        if not point.transforms:
            raise ValueError(f'point {index} of the trajectory has no transform')
        at, q = point.transforms[0].translation, point.transforms[0].rotation
        if not _is_rotation(q):
            raise ValueError(f'the orientation of point {index} of the trajectory is not finite')
        times.append(point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec)
        positions.append((at.x, at.y, at.z))
        yaws.append(euler_from_quaternion(q.x, q.y, q.z, q.w)[2])
        for name, known in rates.items():
            for twist in getattr(point, name)[:1]:
                known.append((twist.linear.x, twist.linear.y, twist.linear.z))
    whole = {k: np.array(v) if len(v) == len(points) else None for k, v in rates.items()}
    if whole['velocities'] is None:
        whole['accelerations'] = None
    return {
        'times': np.array(times),
        'positions': np.array(positions),
        'yaws': np.unwrap(yaws),
        **whole,
    }


def goal_from_pose(message: PoseStamped) -> Goal:
    """Return the goal at a pose: its position and heading; a tilt of the pose is ignored.

    Raises:
        ValueError: a coordinate is not finite, or the orientation is no unit quaternion.
    """
    position, q = message.pose.position, message.pose.orientation
    if not abs(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w - 1.0) <= UNIT_TOLERANCE:
        raise NotARotationError(q.x, q.y, q.z, q.w)
    _, _, yaw = euler_from_quaternion(q.x, q.y, q.z, q.w)
    return Goal((position.x, position.y, position.z), yaw)
