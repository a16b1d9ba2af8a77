"""Paths through points at times: of a file, of a topic, of a planner."""

import io
import math
import os
from pathlib import Path

import numpy as np
from scipy.interpolate import BSpline, CubicSpline, PPoly, make_interp_spline

from hmpc_ros import disk
from hmpc_ros.plant.reference.headings import Fixed, Interpolated, along, given
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase, Steady
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.reference.values import finite, place

MOST_POINTS = 50_000
_MOST_BYTES = 20_000_000
_LEAST_INTERVAL = 1e-3  # s
_COLUMNS = ('t', 'x', 'y', 'z', 'yaw', 'vx', 'vy', 'vz', 'ax', 'ay', 'az')


class Spline:
    """A piecewise polynomial and its derivatives, evaluated at once.

    Args:
        breaks: ends of the pieces (m + 1,), increasing.
        powers: coefficients (k, m, 3) of the powers 0..k-1 of the parameter since each break.
    """

    def __init__(self, breaks: np.ndarray, powers: np.ndarray) -> None:
        count = np.arange(1, len(powers))[:, None, None]
        orders = [powers]
        for _ in range(3):
            last = orders[-1]
            orders.append(np.concatenate([last[1:] * count, np.zeros_like(last[:1])]))
        self._pieces = PPoly(np.stack(orders, axis=2)[::-1].copy(), breaks)
        self.end = float(breaks[-1])

    def __call__(self, phi: np.ndarray) -> np.ndarray:
        """Return the point and its first three derivatives, (n, 4, 3), at (n,)."""
        return self._pieces(phi)


def from_points(
    times: np.ndarray,
    positions: np.ndarray,
    velocities: np.ndarray | None = None,
    accelerations: np.ndarray | None = None,
    yaws: np.ndarray | None = None,
    yaw: str = 'given',
    fixed_yaw: float = 0.0,
    ramp: float = 1.0,
) -> Reference:
    """Return the path through points at times, begun from rest and ended in hover.

    With velocities and accelerations the pieces are quintic Hermite polynomials; without
    accelerations those are taken from the cubic spline through the velocities; of positions alone
    a quintic spline is made, or with fewer than six points the path of least snap from rest to
    rest. A path that does not begin and end at rest is run up to its own pace, and down from it,
    by a `Phase`. One point is a hover.

    Args:
        times: (n,) [s], increasing; counted from the first.
        positions: (n, 3) [m].
        velocities: (n, 3) [m/s].
        accelerations: (n, 3) [m/s^2], only with velocities.
        yaws: (n,) [rad].
        yaw: `given` (fixed where no yaws are), `path` or `fixed`.
        fixed_yaw: [rad].
        ramp: time [s] to reach the path's own pace, and to lose it.

    Raises:
        ValueError: wrong shapes, NaN, times that do not increase, too many or too far points.
    """
    times = finite('the times of the path', times, (None,))
    n = len(times)
    if not 1 <= n <= MOST_POINTS:
        raise ValueError(f'a path needs 1 to {MOST_POINTS} points, got {n}')
    positions = place('the positions of the path', positions, (n, 3))
    if yaws is not None:
        yaws = finite('the yaws of the path', yaws, (n,))
    if n == 1:
        return Hover(positions[0], yaws[0] if yaws is not None else fixed_yaw)
    gaps = np.diff(times)
    if gaps.min() < _LEAST_INTERVAL:
        at = int(np.argmin(gaps))
        raise ValueError(
            f'the times of the path must increase by at least {_LEAST_INTERVAL} s, but '
            f'point {at + 1} is at {times[at + 1]:g} s after {times[at]:g} s'
        )
    times = times - times[0]
    curve = _interpolated(times, positions, velocities, accelerations)
    return paced(curve, times, yaws, yaw, fixed_yaw, ramp)


def paced(
    curve: Spline,
    times: np.ndarray,
    yaws: np.ndarray | None,
    yaw: str,
    fixed_yaw: float,
    ramp: float,
) -> Paced:
    """Return a spline over time as a path from rest to rest with yaw as asked for."""
    heading: Fixed | Interpolated = Fixed(fixed_yaw)
    if yaw == 'path':
        heading = along(curve, curve.end, fixed_yaw)
    elif yaw == 'given' and yaws is not None:
        heading = given(times, yaws)
    ends = curve(np.array([0.0, curve.end]))
    rests = np.abs(ends[:, 1]).max() < 1e-3 and np.abs(ends[:, 2]).max() < 1e-2
    phase = Steady(curve.end) if rests else Phase(1.0, curve.end, ramp)
    return Paced(curve, phase, heading)


def _interpolated(
    times: np.ndarray,
    positions: np.ndarray,
    velocities: np.ndarray | None,
    accelerations: np.ndarray | None,
) -> Spline:
    n = len(times)
    if velocities is not None:
        velocities = finite('the velocities of the path', velocities, (n, 3))
        if accelerations is not None:
            accelerations = finite('the accelerations of the path', accelerations, (n, 3))
        else:
            accelerations = CubicSpline(times, velocities).derivative()(times)
        return _hermite(times, positions, velocities, accelerations)
    if accelerations is not None:
        raise ValueError('accelerations of a path need its velocities too')
    if n < 6:
        return rest_to_rest(times, positions)
    return _taylor(make_interp_spline(times, positions, k=5), times, 5)


def _hermite(
    times: np.ndarray, positions: np.ndarray, velocities: np.ndarray, accelerations: np.ndarray
) -> Spline:
    """Return the quintic pieces through points with their first two derivatives.

    Over a piece of length h from p0, v0, a0, what is left at its end for the upper three powers is

        P = p1 - (p0 + v0 h + a0 h^2 / 2),   V = (v1 - (v0 + a0 h)) h,   A = (a1 - a0) h^2 / 2,

    and c3 h^3 = 10 P - 4 V + A, c4 h^4 = -15 P + 7 V - 2 A, c5 h^5 = 6 P - 3 V + A.
    """
    h = np.diff(times)[:, None]
    p, v, a = positions[:-1], velocities[:-1], accelerations[:-1]
    P = positions[1:] - (p + v * h + a * h**2 / 2)
    V = (velocities[1:] - (v + a * h)) * h
    A = (accelerations[1:] - a) * h**2 / 2
    upper = (10 * P - 4 * V + A) / h**3, (7 * V - 15 * P - 2 * A) / h**4, (6 * P - 3 * V + A) / h**5
    return Spline(times, np.stack([p, v, a / 2, *upper]))


def rest_to_rest(times: np.ndarray, positions: np.ndarray) -> Spline:
    """Return the path of least snap through points (n, 3) at times (n,), at rest at both ends.

    Among all paths through the points whose velocity, acceleration and jerk vanish at the ends the
    integral of |p''''|^2 is least for the spline of degree 7 (with six continuous derivatives):
    de Boor 1963 for splines, Mellinger and Kumar 2011 for quadcopters. B-splines keep the
    equations well conditioned however many points there are.
    """
    rest = [(order, np.zeros(3)) for order in (1, 2, 3)]
    return _taylor(make_interp_spline(times, positions, k=7, bc_type=(rest, rest)), times, 7)


def _taylor(pieces: BSpline, times: np.ndarray, degree: int) -> Spline:
    """Return a spline as powers: Taylor's coefficients at the beginning of a piece are its own."""
    orders = range(degree + 1)
    powers = [pieces(times[:-1], nu=order) / math.factorial(order) for order in orders]
    return Spline(times, np.stack(powers))


def from_file(
    path: str | Path, yaw: str = 'given', fixed_yaw: float = 0.0, ramp: float = 1.0
) -> Reference:
    """Return the path of a CSV file with a header: t,x,y,z[,yaw][,vx,vy,vz][,ax,ay,az], SI units.

    Raises:
        ValueError: no such file, too large, no such columns, or what `from_points` refuses; the
            message names the file.
    """
    path = Path(os.path.expanduser(str(path)))  # noqa: PTH111 - Path's own raises for unknown users
    if not path.exists():
        raise ValueError(f'reference.file: there is no file {path}')
    try:
        with io.StringIO(disk.read(path, _MOST_BYTES).decode('utf-8-sig'), newline=None) as lines:
            names = [name.strip() for name in lines.readline().split(',')]
            known = len(set(names)) == len(names) and set(names) <= set(_COLUMNS)
            whole = all(
                sum(column in names for column in group) in allowed
                for group, allowed in (
                    (_COLUMNS[:4], {4}), (_COLUMNS[5:8], {0, 3}), (_COLUMNS[8:], {0, 3})
                )
            )  # fmt: skip
            if not known or not whole:
                raise ValueError(
                    'the first line must name the columns t,x,y,z[,yaw][,vx,vy,vz][,ax,ay,az], '
                    f'got {",".join(names)[:200]}'
                )
            # A row more than allowed is enough to know that there are too many.
            table = np.loadtxt(lines, delimiter=',', ndmin=2, max_rows=MOST_POINTS + 1)
        if table.shape[1] != len(names):
            raise ValueError(f'{len(names)} columns are named, rows have {table.shape[1]}')
        column = dict(zip(names, table.T, strict=True))

        def three(*group: str) -> np.ndarray | None:
            return np.column_stack([column[g] for g in group]) if group[0] in column else None

        positions = np.column_stack([column['x'], column['y'], column['z']])
        return from_points(
            column['t'], positions, three('vx', 'vy', 'vz'), three('ax', 'ay', 'az'),
            column.get('yaw'), yaw, fixed_yaw, ramp,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise ValueError(f'reference.file: {path}: {disk.reason(error)}') from error
