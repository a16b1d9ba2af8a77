"""The picture of a vehicle that learned to track: both paths, every error, what was identified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.figures.page import head, page, sheet
from hmpc_ros.figures.style import BLUE, FAINT, GREEN, INK, MUTED, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hmpc_ros.policy.tracking.flying import TrackedFlight

_BEFORE, _AFTER = ORANGE, BLUE
FRAMES_PER_S, TRAIL = 10, 1.2  # of the animation; trail in s


def draw_learned(
    path: Path,
    before: TrackedFlight,
    after: TrackedFlight,
    rmse: Sequence[float],
    observed: float,
    identified: Sequence[Mapping[str, Any]],
    counted: tuple[float, float],
    *,
    title: str,
    subtitle: str,
) -> Path:
    """Draw two flights over their reference, the error of every flight, and what was identified.

    ``rmse`` is that of every flight [m], ``observed`` that of one with nothing learned and the
    observer on, ``counted`` the time in which errors count. Each number that was ``identified`` has
    a ``name``, ``estimate``, ``standard_error``, ``told`` and ``truth`` (or None).
    """
    with page(path) as figure:
        grid = figure.add_gridspec(
            2, 2, width_ratios=(1.15, 1), left=0.055, right=0.985, top=0.845, bottom=0.065,
            hspace=0.3, wspace=0.2,
        )  # fmt: skip
        head(figure, title, subtitle)
        _draw_paths(figure.add_subplot(grid[0, 0], projection='3d'), before, after, counted)
        _draw_rmse(figure.add_subplot(grid[0, 1]), rmse, observed)
        _draw_errors(figure.add_subplot(grid[1, 0]), before, after, counted)
        _draw_identified(figure.add_subplot(grid[1, 1]), identified)
    return path


def _flights(before: TrackedFlight, after: TrackedFlight) -> tuple:
    return ((before, _BEFORE, 'before'), (after, _AFTER, 'after'))


def _draw_paths(
    axis: Any, before: TrackedFlight, after: TrackedFlight, counted: tuple[float, float]
) -> None:
    part = (before.times >= counted[0]) & (before.times <= counted[1])
    wanted = before.reference.position[part]
    for flight, colour, label in _flights(before, after):
        axis.plot(*flight.states[part, :3].T, color=colour, label=label, lw=2, clip_on=False)
    axis.plot(*wanted.T, color=INK, lw=0.9, ls=(0, (4, 3)), label='reference', clip_on=False)
    _look(axis, np.concatenate([wanted, before.states[part, :3], after.states[part, :3]]))
    axis.set_title('Paths [m]')
    axis.legend(loc='upper right', ncols=3)


def _look(axis: Any, points: np.ndarray) -> None:
    """Set a 3D axis to points (n, 3), seen from where an eight is seen best."""
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    half = np.maximum(0.52 * np.ptp(points, axis=0), 0.15)
    for name, centre, reach in zip('xyz', middle, half, strict=True):
        getattr(axis, f'set_{name}lim')(centre - reach, centre + reach)
    axis.set_box_aspect(np.maximum(half, 0.25 * half.max()), zoom=1.45)
    axis.view_init(elev=18, azim=-70)
    axis.tick_params(labelsize=7, pad=-1)
    axis.locator_params(axis='z', nbins=3)


def animate_learned(
    path: Path,
    before: TrackedFlight,
    after: TrackedFlight,
    rmse: tuple[float, float],
    counted: tuple[float, float],
    *,
    title: str,
) -> Path:
    """Write a GIF of two flights over their reference, at the pace of the clock.

    Args:
        path: to write, ``.gif``.
        before: the first flight.
        after: the last one, as long.
        rmse: of both [m].
        counted: the time that is shown [s].
        title: first line.

    Returns:
        The path that was written.
    """
    from matplotlib.animation import FuncAnimation, PillowWriter

    part = (before.times >= counted[0]) & (before.times <= counted[1])
    wanted = before.reference.position[part]
    with sheet((6.4, 3.4)) as figure:
        axis = figure.add_axes((0.0, -0.1, 1.0, 1.05), projection='3d')
        axis.plot(*wanted.T, color=MUTED, lw=0.9, ls=(0, (4, 3)), clip_on=False)
        figure.text(0.03, 0.93, title, fontsize=11, fontweight='bold', va='center')
        shown = []
        for row, (flight, colour, label) in enumerate(_flights(before, after)):
            said = f'{label}: {1e3 * rmse[row]:.3g} mm RMSE'
            figure.text(0.03 + 0.3 * row, 0.85, said, fontsize=9, color=colour, va='center')
            (trail,) = axis.plot([], [], [], color=colour, lw=2, clip_on=False)
            (vehicle,) = axis.plot([], [], [], 'o', color=colour, ms=7, clip_on=False)
            shown.append((flight.states[part, :3], trail, vehicle))
        _look(axis, np.concatenate([wanted, *(states for states, _, _ in shown)]))
        kept = round(TRAIL / before.time_step)

        def show(step: int) -> list:
            for states, trail, vehicle in shown:
                trail.set_data_3d(*states[max(0, step - kept) : step + 1].T)
                vehicle.set_data_3d(*states[step : step + 1].T)
            return []

        steps = range(0, len(wanted), round(1 / (FRAMES_PER_S * before.time_step)))
        path.parent.mkdir(parents=True, exist_ok=True)
        FuncAnimation(figure, show, frames=steps).save(
            path, writer=PillowWriter(fps=FRAMES_PER_S), dpi=100
        )
    return path


def _draw_rmse(axis: Axes, rmse: Sequence[float], observed: float) -> None:
    flights = np.arange(1, len(rmse) + 1)
    axis.semilogy(flights, 1e3 * np.asarray(rmse), color=BLUE, marker='o', ms=6)
    for flight, error in zip(flights, rmse, strict=True):
        axis.annotate(
            f'{1e3 * error:.3g}', (float(flight), 1e3 * error), (6, 6), textcoords='offset points'
        )
    axis.axhline(
        1e3 * observed, color=MUTED, lw=1, ls=(0, (4, 3)),
        label=f'nothing learned, observer on: {1e3 * observed:.3g}',
    )  # fmt: skip
    axis.legend(loc='upper right')
    axis.set_title('RMSE of each flight [mm]')
    axis.set_xlabel('flight')
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.margins(x=0.12, y=0.15)


def _draw_errors(
    axis: Axes, before: TrackedFlight, after: TrackedFlight, counted: tuple[float, float]
) -> None:
    for flight, colour, label in _flights(before, after):
        error = 1e3 * np.linalg.norm(flight.errors, axis=1)
        axis.semilogy(flight.times[1:], error[1:], color=colour, label=label)
    end = before.times[-1]
    for out in ((0.0, counted[0]), (counted[1], end)):
        axis.axvspan(*out, color='#F3F4F6', lw=0, zorder=0)
    axis.set_xlim(0, end)
    axis.set_ylim(bottom=0.05)
    axis.set_title('Distance from the reference [mm]')
    axis.set_xlabel('time [s]')
    axis.legend(loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=2)


def _draw_identified(axis: Axes, identified: Sequence[Mapping[str, Any]]) -> None:
    """Draw estimates with two standard errors; the truth where it is known."""
    rows = np.arange(len(identified))[::-1]
    for row, each in zip(rows, identified, strict=True):
        if each['told']:
            axis.errorbar(
                each['estimate'], row, xerr=2 * each['standard_error'], color=BLUE, fmt='o', ms=5,
                capsize=3,
            )  # fmt: skip
            said = f'{each["estimate"]:.4f} ± {each["standard_error"]:.2g}'
        else:
            axis.plot(each['estimate'], row, 'o', mfc='none', mec=MUTED, ms=5)
            said = 'as assumed: no flight tells'
        if each['truth'] is not None:
            axis.plot(each['truth'], row, '|', color=GREEN, ms=16, mew=2, zorder=5)
            said += f'   truth {each["truth"]:.4f}'
        axis.annotate(said, (1.0, row), xycoords=('axes fraction', 'data'), ha='right', va='center')
    axis.set_yticks(rows, [each['name'] for each in identified])
    axis.margins(x=0.1)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 1.3 * (high - low))  # room for the numbers
    axis.grid(color=FAINT)
    axis.set_title('Identified, ± standard error; green: the truth, where it is known')
