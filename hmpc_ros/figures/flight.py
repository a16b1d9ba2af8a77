"""The picture of a flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.figures.page import head, page
from hmpc_ros.figures.style import BLUE, FORBIDDEN, GREEN, INK, MUTED, ORANGE, ROTORS, XYZ
from hmpc_ros.plant.kinds import ATTITUDE, POSITION, RATES_OF_TURN, VELOCITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.linear.limits import Limits


@dataclass(frozen=True, eq=False)
class Timing:
    """What the picture says about computing time."""

    label: str  #: what was measured, e.g. "whole solve" or "odometry to command"
    seconds: NDArray[np.float64]  #: one number per step [s], NaN where unknown


def draw_flight(
    path: Path,
    flight: Flight,
    limits: Limits,
    time_step: float,
    *,
    title: str,
    subtitle: str,
    timing: Timing | None = None,
) -> Path:
    """Draw a flight: its path, all states and inputs with their bounds, and the solve times."""
    path = Path(path)
    with page(path) as figure:
        grid = figure.add_gridspec(
            3, 3, width_ratios=(1.3, 1, 1), left=0.045, right=0.985, top=0.855, bottom=0.065,
            hspace=0.36, wspace=0.21,
        )  # fmt: skip
        head(figure, title, subtitle, left=0.045, heights=(0.958, 0.918))

        times = np.arange(flight.steps + 1, dtype=np.float64) * time_step
        x = flight.states
        goal = flight.goal.state
        _draw_map(figure, figure.add_subplot(grid[0:2, 0]), flight)
        draw_timing(figure.add_subplot(grid[2, 0]), times[:-1], timing)

        axes = [figure.add_subplot(grid[row, column]) for row in range(3) for column in (1, 2)]
        draw_lines(axes[0], times, x[:, POSITION], 'Position [m]', ('x', 'y', 'z'))
        for value, colour in zip(goal[POSITION], XYZ, strict=True):
            axes[0].axhline(value, color=colour, lw=0.9, ls=(0, (4, 3)), alpha=0.7, zorder=1)
        draw_lines(axes[1], times, x[:, VELOCITY], 'Velocity [m/s]', ('x', 'y', 'z'))
        _draw_bounds(axes[1], limits.velocity)
        degrees = np.degrees(flight.deviations)
        draw_lines(axes[2], times, degrees[:, ATTITUDE], 'Attitude [deg]', ('roll', 'pitch', 'yaw'))
        _draw_bounds(axes[2], np.degrees(limits.attitude))
        draw_lines(axes[3], times, degrees[:, RATES_OF_TURN], 'Body rates [deg/s]', ('p', 'q', 'r'))
        _draw_bounds(axes[3], np.degrees(limits.rates))
        _draw_rotors(axes[4], times, flight, limits)
        _draw_distance(axes[5], times, flight)
        share_time(axes, times[-1])
    return path


def draw_lines(
    axis: Axes,
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    title: str,
    names: Sequence[str],
) -> None:
    """Draw the columns of values (n, m) over times (n,), m at most three."""
    for column, (name, colour) in enumerate(zip(names, XYZ, strict=True)):
        axis.plot(times, values[:, column], color=colour, label=name)
    axis.set_title(title)
    legend(axis, len(names))


def share_time(axes: Sequence[Axes], end: float) -> None:
    """Let panels in two columns, row by row, show the same time, told below the last two."""
    for axis in axes:
        axis.set_xlim(0, end)
        round_ticks(axis)
    for axis in axes[:-2]:
        axis.tick_params(labelbottom=False)
    for axis in axes[-2:]:
        axis.set_xlabel('time [s]')


def round_ticks(axis: Axes) -> None:
    """Put the ticks of time on round numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _plain_log_ticks(axis: Axes) -> None:
    """Label a logarithmic axis 0.1, 1, 10 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f'{value:g}'))
    axis.yaxis.set_minor_formatter(NullFormatter())


def legend(axis: Axes, columns: int, *, tight: bool = False) -> None:
    """Put the legend on the title's line, where it can cover nothing."""
    axis.legend(
        loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=columns, borderpad=0.2,
        handlelength=0.8 if tight else 1.3, columnspacing=0.8 if tight else 1.1,
        handletextpad=0.35 if tight else 0.5,
    )  # fmt: skip


def _draw_bounds(axis: Axes, bounds: Sequence[float] | NDArray[np.float64]) -> None:
    """Shade what lies beyond symmetric bounds; different ones per line get a line each."""
    unique = sorted({round(float(bound), 9) for bound in bounds})
    largest = unique[-1]
    low, high = axis.get_ylim()
    reach = 1.12 * max(largest, abs(low), abs(high))
    for bound, colour in zip(bounds, XYZ, strict=True):
        for sign in (-1, 1):
            axis.axhline(
                sign * bound, lw=0.9, zorder=1, color=MUTED if len(unique) == 1 else colour
            )
    axis.axhspan(largest, reach, color=FORBIDDEN, lw=0, zorder=0)
    axis.axhspan(-reach, -largest, color=FORBIDDEN, lw=0, zorder=0)
    axis.set_ylim(-reach, reach)


def _draw_rotors(axis: Axes, times: NDArray[np.float64], flight: Flight, limits: Limits) -> None:
    names = ('front', 'right', 'back', 'left')
    for column, (name, colour) in enumerate(zip(names, ROTORS, strict=True)):
        axis.plot(
            times, np.append(flight.inputs[:, column], flight.inputs[-1, column]),
            drawstyle='steps-post', color=colour, lw=1.1, label=name, alpha=0.9,
        )  # fmt: skip
    axis.set_title('Rotors [rad/s]')
    legend(axis, 4, tight=True)
    hover = float(flight.hover_input[0])
    axis.axhline(hover, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    low, high = float(flight.inputs.min()), float(flight.inputs.max())
    span = max(limits.rotor_max - min(low, hover), 1e-3 * limits.rotor_max)
    axis.set_ylim(min(low, hover) - 0.12 * span, max(high, limits.rotor_max) + 0.12 * span)
    for bound, outside in (
        (limits.rotor_max, axis.get_ylim()[1]),
        (limits.rotor_min, axis.get_ylim()[0]),
    ):
        if axis.get_ylim()[0] < bound:
            axis.axhline(bound, color=MUTED, lw=0.9, zorder=1)
            axis.axhspan(*sorted((bound, outside)), color=FORBIDDEN, lw=0, zorder=0)
    axis.text(
        times[-1], hover - 0.03 * span, f'hover {hover:.2f} ', ha='right', va='top', fontsize=8,
        color=MUTED,
    )  # fmt: skip


def _draw_distance(axis: Axes, times: NDArray[np.float64], flight: Flight) -> None:
    distance = np.linalg.norm(flight.deviations[:, POSITION], axis=1)
    axis.semilogy(times, np.maximum(distance, 1e-6), color=INK)
    axis.set_title('Distance to the goal [m]')
    axis.axhline(0.05, color=GREEN, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axis.annotate(
        '5 cm', (0, 0.05), xytext=(3, -3), textcoords='offset points', va='top', color=GREEN,
        fontsize=8,
    )  # fmt: skip
    inside = np.flatnonzero(distance > 0.05)
    last = inside[-1] + 1 if len(inside) else 0
    if last < len(times):
        axis.plot(times[last], distance[last], 'o', color=GREEN, ms=5, zorder=4)
        axis.annotate(
            f'{times[last]:.1f} s', (times[last], distance[last]), xytext=(5, 6),
            textcoords='offset points', color=GREEN, fontsize=8.5,
        )  # fmt: skip
    axis.set_ylim(max(1e-6, 0.4 * min(distance.min(), 0.05)), 2 * max(distance.max(), 0.05))
    _plain_log_ticks(axis)


def draw_timing(axis: Axes, times: NDArray[np.float64], timing: Timing | None) -> None:
    """Draw computing time per step, its median and its 99 % on a logarithmic axis."""
    axis.set_xlabel('time [s]')
    known = None if timing is None else np.isfinite(timing.seconds)
    if timing is None or not np.any(known):
        axis.set_title('Computing time')
        axis.text(0.5, 0.5, 'not measured', ha='center', transform=axis.transAxes, color=MUTED)
        return
    milliseconds = 1e3 * timing.seconds
    median, p99 = np.percentile(milliseconds[known], (50, 99))
    axis.set_title(f'{timing.label} [ms]')
    axis.plot(times, milliseconds, '.', color=BLUE, ms=4.5, alpha=0.5, mew=0)
    for value, name, colour in ((median, 'median', INK), (p99, '99 %', ORANGE)):
        axis.axhline(value, color=colour, lw=1, label=f'{name} {value:.2f}')
    axis.set_yscale('log')
    smallest, largest = np.nanmin(milliseconds), np.nanmax(milliseconds)
    # At least a decade, so that a calm flight does not look like a wild one.
    axis.set_ylim(min(0.7 * smallest, 0.3 * median), max(1.4 * largest, 4 * median))
    _plain_log_ticks(axis)
    axis.set_xlim(0, times[-1] + (times[1] - times[0] if len(times) > 1 else 1.0))
    round_ticks(axis)
    legend(axis, 2)


def _draw_map(figure: Figure, axis: Axes, flight: Flight) -> None:
    """Draw the path seen from above, coloured by height, with the vehicle every few steps."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    x, y, z = flight.states[:, 0], flight.states[:, 1], flight.states[:, 2]
    goal = flight.goal
    axis.set_title('Path from above')
    points = np.column_stack([x, y])
    heights = LinearSegmentedColormap.from_list('height', ['#0B3C5D', BLUE, '#56B4E9', '#E69F00'])
    z_low, z_high = float(z.min()), float(z.max())
    if z_high - z_low < 0.02:
        middle = 0.5 * (z_low + z_high)
        z_low, z_high = middle - 0.01, middle + 0.01
    path = LineCollection(
        np.stack([points[:-1], points[1:]], axis=1), cmap=heights, lw=3.2, capstyle='round',
        zorder=3,
    )  # fmt: skip
    path.set_clim(z_low, z_high)
    path.set_array(0.5 * (z[:-1] + z[1:]))
    axis.add_collection(path)

    # A square window keeps metres equal in both directions whatever the flight.
    xs, ys = np.append(x, goal.position[0]), np.append(y, goal.position[1])
    half_x, half_y = 0.5 * np.ptp(xs), 0.5 * np.ptp(ys)
    size = max(half_x, half_y * 1.05, 0.5)
    margin = 0.14 * size
    axis.set_xlim(xs.min() + half_x - size - margin, xs.min() + half_x + size + margin)
    axis.set_ylim(ys.min() + half_y - size - margin, ys.min() + half_y + size + margin)
    axis.set_aspect('equal', adjustable='box')

    # Vehicles, turned by their yaw: at the end, and where the path is long enough for them.
    arm, gap = 0.035 * size, 0.19 * size
    drawn = [len(x) - 1]
    for k in range(len(x)):
        if np.min(np.hypot(x[drawn] - x[k], y[drawn] - y[k])) > gap:
            drawn.append(k)
    for k in drawn:
        _draw_vehicle(axis, x[k], y[k], flight.states[k, 8], arm)

    axis.plot(*goal.position[:2], '*', color=GREEN, ms=17, mec='white', mew=1.0, zorder=6)
    away = (x[0] - goal.position[0], y[0] - goal.position[1])
    _note(axis, 'start', (x[0], y[0]), away, INK)
    position = ', '.join(f'{value:g}' for value in goal.position)
    _note(axis, f'goal ({position}) m', goal.position[:2], (-away[0], -away[1]), GREEN)
    axis.set_xlabel('x [m]')
    axis.set_ylabel('y [m]', labelpad=2)
    bar = figure.colorbar(path, ax=axis, fraction=0.03, pad=0.02, aspect=34)
    bar.outline.set_visible(False)
    bar.ax.set_title('z [m]', fontsize=9, fontweight='normal', loc='center', pad=6)
    bar.ax.grid(False)


def _draw_vehicle(axis: Axes, x: float, y: float, yaw: float, arm: float) -> None:
    """Draw the "+" of a quadcopter with its four rotors, the front one in colour."""
    from matplotlib.patches import Circle

    for k in range(2):
        angle = yaw + k * np.pi / 2
        dx, dy = arm * np.cos(angle), arm * np.sin(angle)
        axis.plot([x - dx, x + dx], [y - dy, y + dy], color=INK, lw=1, zorder=4)
    for k in range(4):
        angle = yaw + k * np.pi / 2
        centre = (x + arm * np.cos(angle), y + arm * np.sin(angle))
        axis.add_patch(
            Circle(centre, 0.55 * arm, fc='white' if k else ORANGE, ec=INK, lw=0.8, zorder=5)
        )


def _note(axis: Axes, text: str, at: Sequence[float], away: Sequence[float], colour: str) -> None:
    """Write beside a point: above or below it, away from the path, and inside the map."""
    above = away[1] >= 0
    low, high = axis.get_xlim()
    where = (at[0] - low) / (high - low)
    side = 'left' if where < 0.3 else 'right' if where > 0.7 else 'center'
    offset = ({'left': -9, 'center': 0, 'right': 9}[side], 15 if above else -15)
    axis.annotate(
        text, (at[0], at[1]), xytext=offset, textcoords='offset points', ha=side,
        va='bottom' if above else 'top', color=colour, fontsize=9.5, fontweight='bold', zorder=7,
    )  # fmt: skip
