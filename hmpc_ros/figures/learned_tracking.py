"""The picture of a vehicle that learned to track: both paths, every error, what was identified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from hmpc_ros.figures.style import BLUE, FAINT, GREEN, INK, MUTED, ORANGE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hmpc_ros.policy.tracking.flying import TrackedFlight

_BEFORE, _AFTER = ORANGE, BLUE


def draw_learned(
    path: Path,
    before: TrackedFlight,
    after: TrackedFlight,
    rmse: Sequence[float],
    identified: Sequence[Mapping[str, Any]],
    counted: tuple[float, float],
    *,
    title: str,
    subtitle: str,
) -> Path:
    """Draw two flights over their reference, the error of every flight, and what was identified.

    Args:
        path: picture to write.
        before: the first flight.
        after: the last one.
        rmse: of every flight [m].
        identified: ``name``, ``estimate``, ``standard_error``, ``told`` and ``truth`` (or None) of
            each number.
        counted: the time in which errors count [s].
        title: first line.
        subtitle: second line.

    Returns:
        The path that was written.
    """
    mpl.use('Agg')
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(13.2, 8.4), width_ratios=(1.25, 1))
        figure.subplots_adjust(
            left=0.055, right=0.985, top=0.845, bottom=0.065, hspace=0.33, wspace=0.15
        )
        figure.text(0.055, 0.958, title, fontsize=16, fontweight='bold', va='center')
        figure.text(0.055, 0.912, subtitle, fontsize=11, color=MUTED, va='center')
        _draw_paths(axes[0, 0], before, after, counted)
        _draw_rmse(axes[0, 1], rmse)
        _draw_errors(axes[1, 0], before, after, counted)
        _draw_identified(axes[1, 1], identified)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        plt.close(figure)
    return path


def _flights(before: TrackedFlight, after: TrackedFlight) -> tuple:
    return ((before, _BEFORE, 'before'), (after, _AFTER, 'after'))


def _draw_paths(
    axis: Axes, before: TrackedFlight, after: TrackedFlight, counted: tuple[float, float]
) -> None:
    """Draw x and z: a wrong mass is seen from the side."""
    part = (before.times >= counted[0]) & (before.times <= counted[1])
    wanted = before.reference.position[part]
    axis.plot(*wanted[:, :2].T, color=INK, lw=0.9, ls=(0, (4, 3)), label='reference', zorder=4)
    for flight, colour, label in _flights(before, after):
        axis.plot(*flight.states[part, :2].T, color=colour, label=label, alpha=0.9)
    axis.set_title('Path from above [m]')
    axis.set_aspect('equal', adjustable='datalim')
    axis.legend(loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=3)


def _draw_rmse(axis: Axes, rmse: Sequence[float]) -> None:
    flights = np.arange(1, len(rmse) + 1)
    axis.semilogy(flights, 1e3 * np.asarray(rmse), color=BLUE, marker='o', ms=6)
    for flight, error in zip(flights, rmse, strict=True):
        axis.annotate(
            f'{1e3 * error:.3g}', (float(flight), 1e3 * error), (6, 6), textcoords='offset points'
        )
    axis.set_title('RMSE of each flight [mm]')
    axis.set_xlabel('flight')
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.margins(x=0.08, y=0.15)


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
    axis.set_title('Distance from the reference [mm], shaded: not counted')
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
    axis.set_xlim(low, high + 0.9 * (high - low))  # room for the numbers
    axis.grid(color=FAINT)
    axis.set_title('Identified, with two standard errors; green: the truth, where it is known')
