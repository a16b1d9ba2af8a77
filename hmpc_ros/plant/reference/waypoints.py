"""Minimum-snap paths through waypoints."""

import math

import numpy as np

from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.splines import paced, rest_to_rest
from hmpc_ros.plant.reference.transfer import Pace
from hmpc_ros.plant.reference.values import finite, place

_MOST = 200


def minimum_snap(
    points: np.ndarray,
    pace: Pace = Pace(),  # noqa: B008 - frozen
    yaws: np.ndarray | None = None,
    yaw: str = 'fixed',
    fixed_yaw: float = 0.0,
) -> Paced:
    """Return the path of least snap through waypoints, from rest to rest within a pace.

    Times between waypoints go with the square roots of their distances; then all of time is scaled
    so that the greatest speed, acceleration or jerk just keeps the pace: paths of least snap keep
    their shape under that (Mellinger and Kumar, ICRA 2011).

    Args:
        points: (n, 3) [m], at least two, no two neighbours the same.
        pace: limits of the path.
        yaws: (n,) [rad] at the waypoints, for yaw `given`.
        yaw: `fixed`, `path` or `given`.
        fixed_yaw: [rad].

    Raises:
        ValueError: wrong shapes, NaN, fewer than two points or too many, or the same one twice.
    """
    points = place('reference.waypoints', points, (None, 3))
    n = len(points)
    if not 2 <= n <= _MOST:
        raise ValueError(f'reference.waypoints needs 2 to {_MOST} points, got {n}')
    if yaw == 'given':
        yaws = finite('reference.yaws', yaws if yaws is not None else [], (n,))
    distances = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if distances.min() < 1e-3:
        at = int(np.argmin(distances))
        raise ValueError(f'reference.waypoints: points {at} and {at + 1} are the same')

    # The square root gives short pieces, where paths turn, their share of time.
    times = np.concatenate([[0.0], np.cumsum(np.sqrt(distances))])
    curve = rest_to_rest(times, points)
    orders = curve(np.linspace(0.0, curve.end, 100 * n + 1))
    peaks = [float(np.linalg.norm(orders[:, k], axis=1).max()) for k in (1, 2, 3)]
    scale = max(
        peaks[0] / pace.speed,
        math.sqrt(peaks[1] / pace.acceleration),
        (peaks[2] / pace.jerk) ** (1 / 3),
    )
    times = times * scale
    return paced(rest_to_rest(times, points), times, yaws, yaw, fixed_yaw, ramp=1.0)
