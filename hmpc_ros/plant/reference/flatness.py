"""From a path to the states and inputs that fly it: the quadcopter is differentially flat.

With the model v' = -g e3 + k_T a z_b - R D R' v + d, the force per mass that follows the path is

    F = p'' + g e3 + R D R' v - d,      z_b = F / |F|,      a = |F| / k_T,

implicit through R in the drag only: a few fixed-point turns, since drag is small beside F.
R = Rz(yaw) Ry(pitch) Rx(roll), so that yaw is the yaw of odometry. With h = R' F',

    w_x = -h_y / |F|,   w_y = h_x / |F|,   w_z = (yaw' cos(pitch) - w_y sin(roll)) / cos(roll),
    h = R' p''' + w x (D R' v) + D (R' p'' - w x R' v),

the drag's own derivative included (Mellinger and Kumar, ICRA 2011; with drag Faessler, Franchi and
Scaramuzza, RA-L 2018). All is worked in the frame that is turned by yaw about the vertical, where
rotations are sines and cosines at hand; one array per coordinate, for speed.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hmpc_ros.plant.reference.protocol import Samples

GRAVITY = 9.81  # m/s^2

_TURNS = 3
# Where the path falls freely, or wants to be knife-edged, attitude is not defined: stay finite.
_LEAST_FORCE = 1e-3  # m/s^2
_LEAST_COSINE = 1e-3

Vector = tuple[np.ndarray, np.ndarray, np.ndarray]


class FlatModel(Protocol):
    """What flatness needs to know of a vehicle."""

    @property
    def thrust_gain(self) -> float:
        """Thrust acceleration had for that commanded, k_T."""
        ...

    @property
    def drag(self) -> tuple[float, ...] | np.ndarray:
        """Linear drag of the body axes, (3,) [1/s]."""
        ...

    @property
    def disturbance(self) -> tuple[float, ...] | np.ndarray:
        """Acceleration by what the model does not know, world frame, (3,) [m/s^2]."""
        ...


@dataclass(frozen=True, eq=False)
class Drag:
    """The plainest `FlatModel`."""

    thrust_gain: float = 1.0
    drag: tuple[float, ...] | np.ndarray = (0.0, 0.0, 0.0)
    disturbance: tuple[float, ...] | np.ndarray = (0.0, 0.0, 0.0)


def flat_states(samples: Samples, model: FlatModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the states and inputs with which a vehicle follows a path exactly.

    Args:
        samples: the path at n times.
        model: thrust gain, drag and disturbance of the vehicle.

    Returns:
        states (n, 13): position, velocity (world), quaternion wxyz (body FLU to world, the sign
            whose yaw half is continuous), body rates; inputs (n, 4): thrust acceleration
            [m/s^2] and body rates [rad/s]. Finite always, also where the path asks for free fall.
    """
    n = len(samples.yaw)
    cos_yaw, sin_yaw = np.cos(samples.yaw), np.sin(samples.yaw)

    def turned(vectors: np.ndarray) -> Vector:
        x, y, z = vectors.T
        return cos_yaw * x + sin_yaw * y, cos_yaw * y - sin_yaw * x, z

    dx, dy, dz = (float(value) for value in model.drag)
    velocity = turned(samples.velocity)
    acceleration = turned(samples.acceleration)
    fx, fy, fz = turned(samples.acceleration - np.asarray(model.disturbance))
    fz = fz + GRAVITY
    dragged = dx != 0.0 or dy != 0.0 or dz != 0.0
    force, attitude = _attitude(fx, fy, fz)
    if dragged:
        for _ in range(_TURNS):
            bx, by, bz = _to_body(attitude, velocity)
            ex, ey, ez = _from_body(attitude, (dx * bx, dy * by, dz * bz))
            force, attitude = _attitude(fx + ex, fy + ey, fz + ez)
    sin_roll, cos_roll, _, cos_pitch = attitude
    hx, hy, _ = _to_body(attitude, turned(samples.jerk))

    def rates(hx: np.ndarray, hy: np.ndarray) -> Vector:
        wy = hx / force
        return -hy / force, wy, (samples.yaw_rate * cos_pitch - wy * sin_roll) / cos_roll

    if dragged:
        vx, vy, vz = _to_body(attitude, velocity)
        ax, ay, _ = _to_body(attitude, acceleration)
        hx, hy = hx + dx * ax, hy + dy * ay
        wx, wy, wz = rates(hx, hy)
        for _ in range(_TURNS - 1):
            wx, wy, wz = rates(
                hx + (dz - dx) * wy * vz - (dy - dx) * wz * vy,
                hy + (dx - dy) * wz * vx - (dz - dy) * wx * vz,
            )
    else:
        wx, wy, wz = rates(hx, hy)

    states = np.empty((n, 13))
    states[:, 0:3], states[:, 3:6] = samples.position, samples.velocity
    _write_quaternion(states[:, 6:10], attitude, samples.yaw)
    states[:, 10], states[:, 11], states[:, 12] = wx, wy, wz
    inputs = np.empty((n, 4))
    inputs[:, 0] = force / model.thrust_gain
    inputs[:, 1:] = states[:, 10:]
    return states, inputs


# Attitude in the frame turned by yaw: R = Ry(pitch) Rx(roll), that is
#   x_b = (cp, 0, -sp),  y_b = (sp sr, cr, cp sr),  z_b = (sp cr, -sr, cp cr).
Attitude = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # sr, cr, sp, cp


def _attitude(fx: np.ndarray, fy: np.ndarray, fz: np.ndarray) -> tuple[np.ndarray, Attitude]:
    force = np.maximum(np.sqrt(fx * fx + fy * fy + fz * fz), _LEAST_FORCE)
    upright = np.sqrt(fx * fx + fz * fz)
    if upright.min(initial=1.0) < _LEAST_COSINE * _LEAST_FORCE:
        fz = np.where(upright < _LEAST_COSINE * _LEAST_FORCE, _LEAST_FORCE, fz)
        upright = np.sqrt(fx * fx + fz * fz)
    cos_roll = np.maximum(upright / force, _LEAST_COSINE)
    return force, (-fy / force, cos_roll, fx / upright, fz / upright)


def _to_body(attitude: Attitude, vector: Vector) -> Vector:
    sr, cr, sp, cp = attitude
    x, y, z = vector
    ahead = sp * x + cp * z
    return cp * x - sp * z, cr * y + sr * ahead, cr * ahead - sr * y


def _from_body(attitude: Attitude, vector: Vector) -> Vector:
    sr, cr, sp, cp = attitude
    x, y, z = vector
    ahead = sr * y + cr * z
    return cp * x + sp * ahead, cr * y - sr * z, cp * ahead - sp * x


def _write_quaternion(q: np.ndarray, attitude: Attitude, yaw: np.ndarray) -> None:
    """Write wxyz (n, 4) of the Euler angles; roll and pitch given by sine and cosine."""
    sin_roll, cos_roll, sin_pitch, cos_pitch = attitude
    half = 0.5 * np.arctan2(sin_roll, cos_roll)
    sr, cr = np.sin(half), np.cos(half)
    half = 0.5 * np.arctan2(sin_pitch, cos_pitch)
    sp, cp = np.sin(half), np.cos(half)
    half = 0.5 * yaw
    sy, cy = np.sin(half), np.cos(half)
    a, b, c, d = cr * cp, sr * sp, sr * cp, cr * sp
    q[:, 0] = a * cy + b * sy
    q[:, 1] = c * cy - d * sy
    q[:, 2] = d * cy + c * sy
    q[:, 3] = a * sy - b * cy
