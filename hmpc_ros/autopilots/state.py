"""A vehicle's state as an autopilot tells it, in the frames of ROS, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hmpc_ros.autopilots import frames
from hmpc_ros.plant.odometry import Four, Three, to_body, to_world


class BadEstimateError(ValueError):
    """An autopilot's estimate that cannot be flown on; the message is a sentence."""


@dataclass(frozen=True)
class VehicleState:
    """Where the vehicle is.

    Attributes:
        stamp: when, by the autopilot's clock [s].
        position: ENU [m].
        orientation: (w, x, y, z), body (FLU) to world (ENU).
        velocity: in the body frame [m/s].
        rates: about the axes of the body [rad/s].
        resets: the estimator's counter of resets.
    """

    stamp: float
    position: Three
    orientation: Four
    velocity: Three
    rates: Three
    resets: int = 0

    @property
    def world_velocity(self) -> Three:
        """Velocity in ENU [m/s]."""
        w, x, y, z = self.orientation
        return to_world((x, y, z, w), *self.velocity)

    @property
    def tilt(self) -> float:
        """Angle between the thrust axis and the vertical [rad]."""
        _, x, y, _ = self.orientation
        return math.acos(min(1.0, max(-1.0, 1.0 - 2.0 * (x * x + y * y))))


def _check(
    position: Sequence[float],
    quaternion: Sequence[float],
    velocity: Sequence[float],
    rates: Sequence[float],
) -> None:
    """Refuse what is not finite, or no rotation."""
    named = (('position', position), ('velocity', velocity), ('body rates', rates))
    for name, values in named:
        if not all(map(math.isfinite, values)):
            raise BadEstimateError(
                f"the autopilot's estimator tells no {name} (not finite): has it a position fix?"
            )
    if not frames.is_rotation(*quaternion):
        raise BadEstimateError(
            f"the autopilot's orientation {[round(float(q), 4) for q in quaternion]} is no unit "
            'quaternion'
        )


def from_enu(
    stamp: float,
    position: Sequence[float],
    quaternion: Sequence[float],
    velocity: Sequence[float],
    rates: Sequence[float],
) -> VehicleState:
    """Return the state that is in the frames of ROS already.

    Args:
        stamp: by its clock [s].
        position: ENU [m].
        quaternion: (w, x, y, z), FLU to ENU.
        velocity: in the body frame [m/s].
        rates: FLU [rad/s].

    Raises:
        BadEstimateError: something is not finite or no rotation.
    """
    _check(position, quaternion, velocity, rates)
    (px, py, pz), (w, x, y, z), (vx, vy, vz), (p, q, r) = position, quaternion, velocity, rates
    return VehicleState(stamp, (px, py, pz), (w, x, y, z), (vx, vy, vz), (p, q, r))


def from_ned(
    stamp: float,
    position: Sequence[float],
    quaternion: Sequence[float],
    velocity: Sequence[float],
    rates: Sequence[float],
    *,
    velocity_in_body: bool,
    resets: int = 0,
    quality: int = 0,
) -> VehicleState:
    """Return the state that an autopilot tells.

    Args:
        stamp: by its clock [s].
        position: NED [m]; a frame that points elsewhere than north stays turned by as much.
        quaternion: (w, x, y, z), FRD to NED.
        velocity: [m/s].
        rates: FRD [rad/s].
        velocity_in_body: whether the velocity is in FRD, or in NED.
        resets: counter of resets.
        quality: below 0: the estimator has failed; 0: not told.

    Raises:
        BadEstimateError: something is not finite or no rotation, or the estimator has failed.
    """
    _check(position, quaternion, velocity, rates)
    if quality < 0:
        raise BadEstimateError(f'the autopilot tells that its estimate has failed ({quality=})')
    w, x, y, z = frames.orientation(*(float(value) for value in quaternion))
    length = math.sqrt(w * w + x * x + y * y + z * z)  # it came in single precision
    w, x, y, z = w / length, x / length, y / length, z / length
    vx, vy, vz = (float(value) for value in velocity)
    in_body = (
        frames.body(vx, vy, vz)
        if velocity_in_body
        else to_body((x, y, z, w), *frames.world(vx, vy, vz))
    )
    north, east, down = (float(value) for value in position)
    p, q, r = (float(value) for value in rates)
    return VehicleState(
        stamp, frames.world(north, east, down), (w, x, y, z), in_body, frames.body(p, q, r), resets
    )
