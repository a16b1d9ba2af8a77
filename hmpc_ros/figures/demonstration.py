"""The picture of a learning run: every flight's cost, and the first and the best flight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.figures.page import head, page
from hmpc_ros.figures.style import BLUE, FORBIDDEN, GREEN, INK, MUTED, ORANGE
from hmpc_ros.learning.results import number
from hmpc_ros.plant.quadcopter import STATE_NAMES
from hmpc_ros.policy.linear.limits import BOUNDED_STATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.linear.limits import Limits

_UNITS = ('m', 'm/s', 'rad', 'rad/s')
BEFORE, AFTER = MUTED, BLUE


def draw_before_and_after(
    path: Path,
    records: Sequence[dict[str, Any]],
    before: Flight,
    after: Flight,
    limits: Limits,
    time_step: float,
    *,
    title: str,
    subtitle: str,
) -> Path:
    """Draw cost and violation of every nominal flight, and two flights over each other.

    The flights are those under the start weights and under the best ones of the run's ``records``.
    """
    with page(path) as figure:
        axes = figure.subplots(2, 2)
        figure.subplots_adjust(
            left=0.055, right=0.985, top=0.845, bottom=0.065, hspace=0.33, wspace=0.15
        )
        head(figure, title, subtitle)
        _draw_costs(axes[0, 0], axes[0, 1], records)
        _draw_paths(axes[1, 0], before, after)
        _draw_worst_state(axes[1, 1], before, after, limits, time_step)
    return path


def _draw_costs(left: Axes, right: Axes, records: Sequence[dict[str, Any]]) -> None:
    k = np.array([record['k'] for record in records])
    C, V, J = (np.array([number(record[name]) for record in records]) for name in 'CVJ')
    kept = np.array([record.get('accepted', True) for record in records], dtype=bool)
    best = int(np.argmin(np.where(kept, J, np.inf)))
    left.plot(k, C, color=GREEN, label='C, tracking')
    left.plot(k, J, color=BLUE, marker='.', ms=5, label='J = C + penalty V')
    right.plot(k, V, color=ORANGE, marker='.', ms=5)
    for axis, values in ((left, J), (right, V)):
        if not kept.all():
            axis.plot(k[~kept], values[~kept], 'x', color=INK, ms=6, label='rolled back', zorder=4)
        axis.plot(k[best], values[best], 'o', mfc='none', mec=INK, ms=9, label='best', zorder=5)
        axis.set_xlabel('iteration')
        axis.set_xlim(-0.02 * max(1, k[-1]), 1.02 * max(1, k[-1]))
        axis.xaxis.get_major_locator().set_params(integer=True)
    left.set_title('Cost of each flight')
    right.set_title('Violation of the state bounds, V')
    # A flight that was thrown away may cost many times the others'.
    finite = np.concatenate([C, J])[np.isfinite(np.concatenate([C, J]))]
    low, high = finite.min(), min(finite.max(), 1.15 * J[0])
    left.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    shown = V[np.isfinite(V)]
    right.set_ylim(0, 1.08 * min(shown.max(), 3 * V[0] + 1e-9) + 1e-9)
    left.legend(loc='upper right', frameon=True, framealpha=0.9, edgecolor='none')


def _draw_paths(axis: Axes, before: Flight, after: Flight) -> None:
    for flight, colour, label in ((before, BEFORE, 'before'), (after, AFTER, 'after')):
        axis.plot(flight.states[:, 0], flight.states[:, 1], color=colour, label=label)
    axis.plot(*before.states[0, :2], 'o', color=INK, ms=5)
    axis.plot(*before.goal.position[:2], '*', color=GREEN, ms=16, mec='white', zorder=5)
    axis.set_title('Path from above [m]')
    axis.set_aspect('equal', adjustable='datalim')
    axis.legend(loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=2)


def _draw_worst_state(
    axis: Axes, before: Flight, after: Flight, limits: Limits, time_step: float
) -> None:
    """Draw the state that was beyond its bound most before."""
    bounds = np.asarray(limits.state_max)
    excess = np.maximum(0.0, np.abs(before.deviations[:, BOUNDED_STATES]) - bounds).sum(axis=0)
    worst = int(np.argmax(excess))
    column = BOUNDED_STATES.start + worst
    for flight, colour, label in ((before, BEFORE, 'before'), (after, AFTER, 'after')):
        times = np.arange(flight.steps + 1) * time_step
        axis.plot(times, flight.deviations[:, column], color=colour, label=label)
    reach = 1.15 * max(
        bounds[worst], *(np.abs(flight.deviations[:, column]).max() for flight in (before, after))
    )
    for sign in (-1, 1):
        axis.axhline(sign * bounds[worst], color=MUTED, lw=0.9, zorder=1)
        axis.axhspan(sign * bounds[worst], sign * reach, color=FORBIDDEN, lw=0, zorder=0)
    axis.set_ylim(-reach, reach)
    # The rest of the flight is rest.
    moving = np.abs(before.deviations[:, column]) > 0.05 * bounds[worst]
    end = np.flatnonzero(moving).max(initial=1)
    axis.set_xlim(0, min(1.25 * end, before.steps) * time_step)
    axis.set_title(f'{STATE_NAMES[column]} [{_UNITS[column // 3]}], shaded: beyond its bound')
    axis.set_xlabel('time [s]')
    axis.legend(loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=2)
