"""PX4 over uXRCE-DDS: names of its topics, its modes, and its messages in the frames of ROS.

Messages are read and written by their fields; whose classes they are is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hmpc_ros.autopilots import frames
from hmpc_ros.autopilots.state import BadEstimateError, VehicleState, from_ned
from hmpc_ros.autopilots.takeover import Request
from hmpc_ros.plant.odometry import Three

ARMED, OFFBOARD = 2, 14  # arming_state, nav_state
SET_MODE, ARM = 176, 400  # VehicleCommand
TAKE_OFF = (1.0, 4.0, 2.0)  # parameters of SET_MODE
_NED, _FRD, _BODY_FRD = 1, 2, 3  # pose_frame and velocity_frame
_MODES = {
    0: 'manual', 1: 'altitude', 2: 'position', 3: 'mission', 4: 'hold', 5: 'return', 10: 'acro',
    12: 'descend', 13: 'termination', 14: 'offboard', 15: 'stabilized', 17: 'takeoff', 18: 'land',
    19: 'follow', 20: 'precision land', 21: 'orbit',
}  # fmt: skip


def topic(base: str, direction: str, name: str, message: Any) -> str:
    """Return the name of a topic, with the version that its message class tells.

    Args:
        base: ``fmu``, with a namespace before it where there is one.
        direction: ``in`` or ``out``, seen from PX4.
        name: without version.
        message: the class; old ones tell no version, which is version 0.
    """
    version = getattr(message, 'MESSAGE_VERSION', 0)
    return f'{base}/{direction}/{name}' + (f'_v{version}' if version else '')


def stale(wanted: str, published: Iterable[str]) -> str:
    """Say why nothing comes on a topic, by the names of the topics that there are.

    Args:
        wanted: full name, as `topic` makes it.
        published: full names of all topics that somebody publishes.
    """
    names = set(published)
    folder, _, name = wanted.rpartition('/')
    plain = name.rpartition('_v')[0] if name.rpartition('_v')[2].isdigit() else name
    others = sorted(
        other
        for other in names
        if (
            other != wanted
            and other.startswith(f'{folder}/{plain}')
            and other.removeprefix(f'{folder}/{plain}').removeprefix('_v').isdigit()
        )
        or other == f'{folder}/{plain}' != wanted
    )
    if wanted in names:
        return (
            f'{wanted} is published, but nothing comes of it: is px4_msgs of another release than '
            'PX4, or does another RMW publish it?'
        )
    if others:
        return (
            f'PX4 publishes {", ".join(others)}, but px4_msgs here is for {wanted}: build px4_msgs '
            "from the branch of PX4's release"
        )
    if any(other.startswith(f'{folder}/') for other in names):
        return f'PX4 publishes other topics below {folder}, but not {wanted}'
    return (
        f'nothing is published below {folder}: is the agent running (MicroXRCEAgent udp4 -p 8888), '
        'with the same ROS_DOMAIN_ID and RMW, and is fmu the right beginning?'
    )


def mode(nav_state: int) -> tuple[str, bool]:
    """Return a mode in words, and whether PX4 obeys set-points from outside in it."""
    return _MODES.get(nav_state, f'nav_state {nav_state}'), nav_state == OFFBOARD


def mode_parameters(request: Request) -> Three:
    """Return param1 to param3 of the command SET_MODE."""
    return (1.0, 6.0, 0.0) if request is Request.TAKE else (1.0, 4.0, 3.0)


def state_from_odometry(message: Any) -> VehicleState:
    """Return the state of a VehicleOdometry.

    Raises:
        BadEstimateError: it is not a state to fly on.
    """
    if message.pose_frame not in (_NED, _FRD):
        raise BadEstimateError(f"PX4's odometry has no frame (pose_frame {message.pose_frame})")
    in_body = message.velocity_frame == _BODY_FRD
    if not in_body and message.velocity_frame != message.pose_frame:
        raise BadEstimateError(
            f"the velocity of PX4's odometry is in velocity_frame {message.velocity_frame}, its "
            f'position in pose_frame {message.pose_frame}'
        )
    return from_ned(
        1e-6 * (message.timestamp_sample or message.timestamp),
        message.position,
        message.q,
        message.velocity,
        message.angular_velocity,
        velocity_in_body=in_body,
        resets=message.reset_counter,
        quality=message.quality,
    )


def set_rates(message: Any, rates: Three, throttle: float) -> None:
    """Write body rates (FLU) [rad/s] and a throttle from 0 to 1 into a VehicleRatesSetpoint."""
    message.roll, message.pitch, message.yaw = frames.body(*rates)
    message.thrust_body = [0.0, 0.0, -throttle]
