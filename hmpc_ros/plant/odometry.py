"""A state as odometry carries it: orientation as a quaternion, velocity in the body frame.

Odometry's pose is in the world frame (ENU) and its twist in the body frame (FLU, REP-103); the
state of the model holds position and velocity in the world frame, ZYX Euler angles and body rates.
Here is the arithmetic of both ways, for messages and for flights without messages alike. What runs
once per control step is written with plain floats: for 3 x 3 products numpy costs more than the
arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

# Below this cosine of pitch, roll and yaw turn about the same axis.
_GIMBAL_LOCK = 1e-9

Three = tuple[float, float, float]
Four = tuple[float, float, float, float]


def quaternion_from_euler(roll: float, pitch: float, yaw: float) -> Four:
    """Return the unit quaternion (x, y, z, w) of ZYX Euler angles [rad]."""
    cos_roll, sin_roll = math.cos(0.5 * roll), math.sin(0.5 * roll)
    cos_pitch, sin_pitch = math.cos(0.5 * pitch), math.sin(0.5 * pitch)
    cos_yaw, sin_yaw = math.cos(0.5 * yaw), math.sin(0.5 * yaw)
    return (
        sin_roll * cos_pitch * cos_yaw - cos_roll * sin_pitch * sin_yaw,
        cos_roll * sin_pitch * cos_yaw + sin_roll * cos_pitch * sin_yaw,
        cos_roll * cos_pitch * sin_yaw - sin_roll * sin_pitch * cos_yaw,
        cos_roll * cos_pitch * cos_yaw + sin_roll * sin_pitch * sin_yaw,
    )


def euler_from_quaternion(x: float, y: float, z: float, w: float) -> Three:
    """Return ZYX Euler angles [rad]: roll and yaw in [-pi, pi], pitch in [-pi/2, pi/2].

    Only ratios of the quaternion's products enter, so its length cancels. At pitch = +-pi/2, where
    only one combination of roll and yaw is defined, roll is 0.
    """
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    # First column and last row of the rotation matrix, each times |q|^2.
    r11, r21 = ww + xx - yy - zz, 2.0 * (x * y + w * z)
    r31, r32, r33 = 2.0 * (x * z - w * y), 2.0 * (y * z + w * x), ww - xx - yy + zz
    cos_pitch = math.sqrt(r11 * r11 + r21 * r21)
    pitch = math.atan2(-r31, cos_pitch)
    if cos_pitch <= _GIMBAL_LOCK:
        return 0.0, pitch, math.atan2(2.0 * (w * z - x * y), ww - xx + yy - zz)
    return math.atan2(r32, r33), pitch, math.atan2(r21, r11)


def to_body(orientation: Four, vx: float, vy: float, vz: float) -> Three:
    """Turn a world vector into the body frame: R(q)' v, for a unit quaternion."""
    x, y, z, w = orientation
    xx, yy, zz, ww = x * x, y * y, z * z, w * w
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    return (
        (ww + xx - yy - zz) * vx + 2.0 * ((xy + wz) * vy + (xz - wy) * vz),
        (ww - xx + yy - zz) * vy + 2.0 * ((xy - wz) * vx + (yz + wx) * vz),
        (ww - xx - yy + zz) * vz + 2.0 * ((xz + wy) * vx + (yz - wx) * vy),
    )


def to_world(orientation: Four, vx: float, vy: float, vz: float) -> Three:
    """Turn a body vector into the world frame: R(q) v / |q|^2, for a quaternion of any length."""
    x, y, z, w = orientation
    xx, yy, zz, ww = x * x, y * y, z * z, w * w
    norm2 = xx + yy + zz + ww
    vx, vy, vz = vx / norm2, vy / norm2, vz / norm2
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    return (
        (ww + xx - yy - zz) * vx + 2.0 * ((xy - wz) * vy + (xz + wy) * vz),
        (ww - xx + yy - zz) * vy + 2.0 * ((xy + wz) * vx + (yz - wx) * vz),
        (ww - xx - yy + zz) * vz + 2.0 * ((xz - wy) * vx + (yz + wx) * vy),
    )


def carried(state: np.ndarray) -> np.ndarray:
    """Return a state (12,) after the way through odometry: the same up to the last bits.

    Flights without ROS measure through this, so that they see to the last bit what a controller
    over ROS sees. A state that is not finite is returned as it is.
    """
    px, py, pz, vx, vy, vz, roll, pitch, yaw, p, q, r = state.tolist()
    if not math.isfinite(roll + pitch + yaw):
        return state
    orientation = quaternion_from_euler(roll, pitch, yaw)
    velocity = to_world(orientation, *to_body(orientation, vx, vy, vz))
    return np.array((px, py, pz, *velocity, *euler_from_quaternion(*orientation), p, q, r))
