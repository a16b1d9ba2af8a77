"""Minimum-snap paths through waypoints."""

import math

import numpy as np

from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.splines import Spline, paced
from hmpc_ros.plant.reference.transfer import Pace
from hmpc_ros.plant.reference.values import finite

_MOST = 200
_DEGREE = 9


def minimum_snap(
    points: np.ndarray,
    pace: Pace = Pace(),  # noqa: B008 - frozen
    yaws: np.ndarray | None = None,
    yaw: str = 'fixed',
    fixed_yaw: float = 0.0,
) -> Paced:
    """Return the path of least snap through waypoints, from rest to rest within a pace.

    Times between waypoints are in proportion to their distances; then all of time is scaled so
    that the greatest speed, acceleration or jerk just keeps the pace: minimum-snap paths keep
    their shape under that (Mellinger and Kumar 2011; solved by Richter, Bry and Roy 2013).

    Args:
        points: (n, 3) [m], at least two, no two neighbours the same.
        pace: limits of the path.
        yaws: (n,) [rad] at the waypoints, for yaw `given`.
        yaw: `fixed`, `path` or `given`.
        fixed_yaw: [rad].

    Raises:
        ValueError: wrong shapes, NaN, fewer than two points or too many, or the same one twice.
    """
    points = finite('reference.waypoints', points, (None, 3))
    n = len(points)
    if not 2 <= n <= _MOST:
        raise ValueError(f'reference.waypoints needs 2 to {_MOST} points, got {n}')
    if yaw == 'given':
        yaws = finite('reference.yaws', yaws if yaws is not None else [], (n,))
    distances = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if distances.min() < 1e-3:
        at = int(np.argmin(distances))
        raise ValueError(f'reference.waypoints: points {at} and {at + 1} are the same')

    import minsnap_trajectories as planner

    # A square root gives short pieces, where the path turns, their share of time. Planned with a
    # mean of 1 s a piece, where the polynomials are best conditioned.
    shares = np.sqrt(distances)
    times = np.concatenate([[0.0], np.cumsum(shares / shares.mean())])
    rest = np.zeros(3)
    waypoints = [
        planner.Waypoint(time=float(t), position=p) for t, p in zip(times, points, strict=True)
    ]
    for end in (0, -1):
        waypoints[end] = planner.Waypoint(
            time=float(times[end]), position=points[end],
            velocity=rest, acceleration=rest, jerk=rest,
        )  # fmt: skip
    plan = planner.generate_trajectory(
        waypoints, degree=_DEGREE, idx_minimized_orders=4, num_continuous_orders=5
    )
    powers = np.asarray(plan.coefficients).transpose(1, 0, 2)  # (power, piece, axis)
    curve = Spline(times, powers)
    orders = curve(np.linspace(0.0, curve.end, 100 * n + 1))
    peaks = [float(np.linalg.norm(orders[:, k], axis=1).max()) for k in (1, 2, 3)]
    scale = max(
        peaks[0] / pace.speed,
        math.sqrt(peaks[1] / pace.acceleration),
        (peaks[2] / pace.jerk) ** (1 / 3),
    )
    powers = powers / scale ** np.arange(len(powers))[:, None, None]
    times = times * scale
    return paced(Spline(times, powers), times, yaws, yaw, fixed_yaw, ramp=1.0)
