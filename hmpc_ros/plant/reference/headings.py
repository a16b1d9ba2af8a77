"""Where the nose points along a curve."""

import numpy as np
from scipy.interpolate import CubicSpline, PPoly

from hmpc_ros.plant.reference.paced import Curve

_STEP = 0.01  # of a curve's parameter, for its direction
_SAMPLES = 2000, 100_000  # at least and at most
_STANDSTILL = 0.02  # of a curve's greatest speed


class Fixed:
    """One yaw [rad] all along."""

    def __init__(self, yaw: float = 0.0) -> None:
        self.yaw = float(yaw)

    def __call__(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the yaw and its derivative, each (n,), at (n,)."""
        return np.full(len(phi), self.yaw), np.zeros(len(phi))


class Interpolated:
    """Yaw by a cubic spline."""

    def __init__(self, spline: CubicSpline) -> None:
        slope = np.zeros_like(spline.c)
        slope[1:] = spline.c[:-1] * np.array([[3.0], [2.0], [1.0]])
        self._both = PPoly(np.stack([spline.c, slope], axis=2), spline.x)

    def __call__(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the yaw and its derivative, each (n,), at (n,)."""
        yaw, slope = self._both(phi).T
        return yaw, slope


def given(phi: np.ndarray, yaw: np.ndarray) -> Interpolated:
    """Return the yaw (m,) [rad] given at increasing parameters (m,), turning the shorter way."""
    return Interpolated(CubicSpline(phi, np.unwrap(yaw), bc_type='clamped'))


def along(curve: Curve, end: float, otherwise: float = 0.0) -> Fixed | Interpolated:
    """Return the yaw of a curve's horizontal direction from 0 to `end`.

    Where the curve stands still or climbs straight up it has none: there yaw is carried over
    smoothly from before to after.

    Args:
        curve: the curve.
        end: last value of its parameter.
        otherwise: yaw [rad] of a curve that never goes anywhere horizontally.
    """
    phi = np.linspace(0.0, end, int(np.clip(end / _STEP, *_SAMPLES)))
    tangent = curve(phi)[:, 1, :2]
    speed = np.hypot(*tangent.T)
    known = speed > _STANDSTILL * max(speed.max(), 1e-6)
    if not known.any():
        return Fixed(otherwise)
    yaw = np.unwrap(np.arctan2(tangent[known, 1], tangent[known, 0]))
    where = phi[known]
    ends: list[str | tuple[int, float]] = ['not-a-knot', 'not-a-knot']
    for index in (0, -1):
        if not known[index]:  # at rest at that end: turned already, and turning no more
            ends[index] = (1, 0.0)
            place = 0 if index == 0 else len(where)
            where = np.insert(where, place, phi[index])
            yaw = np.insert(yaw, place, yaw[index])
    return Interpolated(CubicSpline(where, yaw, bc_type=tuple(ends)))
