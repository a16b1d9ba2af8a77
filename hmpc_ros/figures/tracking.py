"""The picture of a flight along a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.figures.flight import Timing, draw_lines, draw_timing, legend, share_time
from hmpc_ros.figures.page import head, page
from hmpc_ros.figures.style import FORBIDDEN, INK, MUTED, ORANGE, XYZ
from hmpc_ros.plant.kinds import POSITION, RATES, VELOCITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hmpc_ros.policy.tracking.flying import TrackedFlight
    from hmpc_ros.policy.tracking.parameters import TrackingLimits
    from hmpc_ros.policy.tracking.performance import Tracking


def draw_tracking(
    path: Path,
    flight: TrackedFlight,
    limits: TrackingLimits,
    counted: Tracking,
    *,
    title: str,
    subtitle: str,
) -> Path:
    """Draw a flight: path coloured by its error, errors, tilt, thrust and rates with their limits.

    The flight has a step at least; ``counted`` are its errors, outside their time it is shaded.
    """
    with page(path) as figure:
        grid = figure.add_gridspec(
            3, 3, width_ratios=(1.3, 1, 1), left=0.045, right=0.985, top=0.855, bottom=0.065,
            hspace=0.36, wspace=0.21,
        )  # fmt: skip
        head(figure, title, subtitle, left=0.045, heights=(0.958, 0.918))
        times, errors = flight.times, 100 * flight.errors
        _draw_paths(figure, grid, flight)
        draw_timing(
            figure.add_subplot(grid[2, 0]), times[:-1], Timing('Solve time', flight.solve_times)
        )
        axes = [figure.add_subplot(grid[row, column]) for row in range(3) for column in (1, 2)]

        draw_lines(axes[0], times, errors, 'Error [cm]', ('x', 'y', 'z'))
        axes[1].plot(times, np.linalg.norm(errors, axis=1), color=INK)
        axes[1].axhline(
            100 * counted.rmse, color=ORANGE, lw=1, label=f'RMSE {100 * counted.rmse:.2f}'
        )
        axes[1].set_title('Distance [cm]')
        axes[1].set_ylim(bottom=0)
        legend(axes[1], 1)
        for axis in axes[:2]:
            for out in ((0, counted.after), (counted.until, times[-1])):
                axis.axvspan(*out, color='#F3F4F6', lw=0, zorder=0)

        tilt = np.degrees(RATES.tilt(flight.states))
        _bounded(axes[2], times, tilt[:, None], 'Tilt [deg]', ('',), None, np.degrees(limits.tilt))
        speed = np.linalg.norm(flight.states[:, VELOCITY], axis=1)
        axes[3].plot(times, speed, color=INK, label='flown')
        axes[3].plot(
            times, np.linalg.norm(flight.reference.velocity, axis=1), color=MUTED, lw=1,
            ls=(0, (4, 3)), label='reference',
        )  # fmt: skip
        axes[3].set_title('Speed [m/s]')
        axes[3].set_ylim(bottom=0)
        legend(axes[3], 2)
        u = flight.inputs
        _bounded(
            axes[4], times[:-1], u[:, :1], 'Thrust commanded [m/s²]', ('',), limits.thrust_min,
            limits.thrust_max,
        )  # fmt: skip
        _rates(axes[5], times, flight, limits)
        share_time(axes, times[-1])
    return path


def _bounded(
    axis: Axes,
    times: Any,
    values: Any,
    title: str,
    names: tuple[str, ...],
    low: float | None,
    high: float,
) -> None:
    """Draw lines, and shade what lies beyond their limits."""
    for column, name in enumerate(names):
        axis.plot(times, values[:, column], color=XYZ[column] if name else INK, label=name)
    axis.set_title(title)
    span = high - (0.0 if low is None else low)
    top = max(high, float(values.max())) + 0.12 * span
    bottom = min(0.0 if low is None else low, float(values.min()))
    if low is not None:
        bottom -= 0.12 * span
        axis.axhline(low, color=MUTED, lw=0.9, zorder=1)
        axis.axhspan(bottom, low, color=FORBIDDEN, lw=0, zorder=0)
    axis.axhline(high, color=MUTED, lw=0.9, zorder=1)
    axis.axhspan(high, top, color=FORBIDDEN, lw=0, zorder=0)
    axis.set_ylim(bottom, top)


def _rates(axis: Axes, times: Any, flight: TrackedFlight, limits: TrackingLimits) -> None:
    """Draw commanded rates, and what the vehicle made of them behind, in the colour of the axis."""
    for k, (name, colour) in enumerate(zip(('roll', 'pitch', 'yaw'), XYZ, strict=True)):
        axis.plot(times, flight.states[:, 10 + k], color=colour, lw=3, alpha=0.25)
        axis.plot(times[:-1], flight.inputs[:, 1 + k], color=colour, lw=1.2, label=name)
    axis.set_title('Body rates [rad/s]')
    legend(axis, 3, tight=True)
    largest = float(np.abs(flight.inputs[:, 1:]).max())
    reach = 1.15 * max(largest, float(np.abs(flight.states[:, 10:]).max()), 0.1)
    for bound, colour in zip(limits.rates, XYZ, strict=True):
        for sign in (-1, 1):
            if bound < reach:
                axis.axhline(sign * bound, color=colour, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axis.set_ylim(-reach, reach)


def _draw_paths(figure: Figure, grid: Any, flight: TrackedFlight) -> None:
    """Draw the path in space and from above, coloured by its distance to the reference."""
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    flown, wanted = flight.states[:, POSITION], flight.reference.position
    error = 100 * np.linalg.norm(flight.errors, axis=1)
    top = max(float(error.max()), 0.1)
    style: dict[str, Any] = {'cmap': 'viridis_r', 'lw': 2.6, 'capstyle': 'round'}

    space = figure.add_subplot(grid[0, 0], projection='3d')
    segments = np.stack([flown[:-1], flown[1:]], axis=1)
    line = Line3DCollection(segments, **style)
    above = LineCollection(segments[:, :, :2], **style, zorder=3)
    for each in (line, above):
        each.set_array(0.5 * (error[:-1] + error[1:]))
        each.set_clim(0, top)
    space.add_collection3d(line)
    space.plot(*wanted.T, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    both = np.concatenate([flown, wanted])
    middle = 0.5 * (both.min(axis=0) + both.max(axis=0))
    half = np.maximum(0.55 * np.ptp(both, axis=0), [0.3, 0.3, 0.3])
    space.set_xlim(middle[0] - half[0], middle[0] + half[0])
    space.set_ylim(middle[1] - half[1], middle[1] + half[1])
    space.set_zlim(middle[2] - half[2], middle[2] + half[2])
    space.set_box_aspect(np.maximum(half, 0.25 * half.max()), zoom=1.25)
    space.set_title('Path [m]')
    space.tick_params(labelsize=7, pad=-1)
    for axis_name in 'yz':
        space.locator_params(axis=axis_name, nbins=3)

    axis = figure.add_subplot(grid[1, 0])
    axis.plot(*wanted[:, :2].T, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    axis.add_collection(above)
    axis.set_xlim(middle[0] - half[0], middle[0] + half[0])
    tall = max(half[1], 0.4 * half[0])
    axis.set_ylim(middle[1] - tall, middle[1] + tall)
    axis.set_aspect('equal', adjustable='box')
    axis.set_title('From above [m]')
    bar = figure.colorbar(above, ax=axis, fraction=0.03, pad=0.02, aspect=20)
    bar.outline.set_visible(False)
    bar.ax.set_title('error [cm]', fontsize=8, fontweight='normal', loc='center', pad=6)
    bar.ax.grid(False)
