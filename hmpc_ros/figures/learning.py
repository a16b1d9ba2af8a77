"""Pictures of learning: cost and violation over the iterations, flights before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.figures.page import head, page
from hmpc_ros.figures.style import BLUE, FORBIDDEN, GREEN, INK, MUTED, ORANGE
from hmpc_ros.learning.results import iterations, number, read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.linear.limits import Limits


@dataclass(frozen=True, eq=False)
class Curves:
    """Cost and violation of one arm over the iterations."""

    label: str  #: for the legend
    colour: str  #: of the line
    C: NDArray[np.float64]  #: tracking cost, (seeds, iterations + 1); NaN where a run had ended
    V: NDArray[np.float64]  #: violation, likewise
    dashed: bool = False  #: whether the arm is a reference that the others are compared with


def draw_learning(
    path: Path, arms: Sequence[Curves], title: str, subtitle: str, references: Mapping[str, float]
) -> Path:
    """Draw tracking cost and violation over the iterations, a line per arm, and references in C.

    Of an arm's seeds the median is the line, and the quartiles are a band.
    """
    with page(path, (12.4, 5.0)) as figure:
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.055, right=0.98, top=0.8, bottom=0.2, wspace=0.16)
        head(figure, title, subtitle, heights=(0.945, 0.885))
        for arm in arms:
            _draw_band(left, arm.C, arm)
            _draw_band(right, arm.V, arm)
        left.set_title('Tracking cost C')
        right.set_title('Violation V of the state bounds')
        left.set_ylim(*_cost_window(arms))
        right.set_ylim(*_violation_window(arms))
        for axis in (left, right):
            axis.set_xlabel('iteration')
            axis.set_xlim(0, max(arm.C.shape[1] for arm in arms) - 1)
            axis.xaxis.get_major_locator().set_params(integer=True)
        for name, value in references.items():
            left.axhline(value, color=MUTED, lw=0.9, ls=(0, (1, 2)), zorder=5)
            below = value == min(references.values())
            left.annotate(
                name, (1, value), xycoords=('axes fraction', 'data'), ha='right',
                xytext=(-3, -3 if below else 2), textcoords='offset points',
                va='top' if below else 'bottom', fontsize=8, color=INK, zorder=5,
            )  # fmt: skip
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc='lower center', ncols=len(labels), bbox_to_anchor=(0.5, 0.01)
        )
    return path


def draw_comparison(
    path: Path,
    flights: Mapping[str, Flight],
    colours: Sequence[str],
    limits: Limits,
    time_step: float,
    title: str,
    subtitle: str,
) -> Path:
    """Draw several flights of the same task, by name, each in its colour, over each other."""
    panels = (
        ('x [m]', 0, 1.0, None),
        ('y [m]', 1, 1.0, None),
        ('z [m]', 2, 1.0, None),
        ('velocity x [m/s]', 3, 1.0, limits.velocity[0]),
        ('velocity y [m/s]', 4, 1.0, limits.velocity[1]),
        ('velocity z [m/s]', 5, 1.0, limits.velocity[2]),
        ('roll [deg]', 6, 180 / np.pi, limits.attitude[0]),
        ('pitch [deg]', 7, 180 / np.pi, limits.attitude[1]),
        ('yaw [deg]', 8, 180 / np.pi, limits.attitude[2]),
        ('roll rate [deg/s]', 9, 180 / np.pi, limits.rates[0]),
        ('pitch rate [deg/s]', 10, 180 / np.pi, limits.rates[1]),
    )
    with page(path, (12.4, 8.8)) as figure:
        axes = figure.subplots(4, 3, sharex=True)
        figure.subplots_adjust(
            left=0.05, right=0.985, top=0.86, bottom=0.1, hspace=0.32, wspace=0.17
        )
        head(figure, title, subtitle, left=0.05, heights=(0.965, 0.93))
        for axis, (name, state, scale, bound) in zip(axes.flat, panels, strict=False):
            for i, ((label, flight), colour) in enumerate(
                zip(flights.items(), colours, strict=True)
            ):
                times = np.arange(flight.steps + 1) * time_step
                values = scale * flight.states[:, state]
                axis.plot(times, values, color=colour, label=label, **_stroke(i, len(flights)))
            axis.set_title(name)
            if bound is not None:
                _shade_beyond(axis, scale * bound)
        _draw_highest_rotor(axes.flat[len(panels)], flights, colours, limits, time_step)
        for axis in axes[-1]:
            axis.set_xlabel('time [s]')
            axis.set_xlim(0, max(flight.steps for flight in flights.values()) * time_step)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc='lower center', ncols=len(labels), bbox_to_anchor=(0.5, 0.005)
        )
    return path


def _draw_band(axis: Axes, values: NDArray[np.float64], arm: Curves) -> None:
    """Draw the median over the seeds and the quartiles; a run that ended counts as infinite."""
    filled = np.where(np.isfinite(values), values, np.inf)
    iterations = np.arange(values.shape[1])
    with np.errstate(invalid='ignore'):
        low, middle, high = np.percentile(filled, (25, 50, 75), axis=0, method='nearest')
    shown = np.isfinite(middle)
    style = (0, (5, 2)) if arm.dashed else '-'
    axis.plot(iterations[shown], middle[shown], color=arm.colour, ls=style, label=arm.label)
    if not shown.all():  # where the runs ended
        last = np.flatnonzero(shown)[-1]
        axis.plot(iterations[last], middle[last], 'x', color=arm.colour, ms=7, mew=2, zorder=4)
    if len(values) > 1:
        top = np.where(np.isfinite(high), high, 1e9)
        axis.fill_between(
            iterations[shown], low[shown], top[shown], color=arm.colour, alpha=0.18, lw=0
        )


def _cost_window(arms: Sequence[Curves]) -> tuple[float, float]:
    """Frame what the arms that got somewhere do; one that runs away leaves the picture."""
    medians = [np.median(np.where(np.isfinite(a.C), a.C, np.inf), axis=0) for a in arms]
    low = min(float(np.min(median)) for median in medians)
    tame = [float(np.max(m)) for m in medians if np.all(np.isfinite(m))]
    high = min(max(tame, default=1.1 * low), 1.1 * low)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _violation_window(arms: Sequence[Curves]) -> tuple[float, float]:
    start = float(np.max([np.median(arm.V[:, 0]) for arm in arms]))
    return 0.0, 1.35 * max(start, 1e-3)


def _stroke(i: int, count: int) -> dict[str, Any]:
    """Keep flights apart that lie over each other: the last is thin and dashed on the others."""
    last = i == count - 1
    return {'lw': 1.2 if last else 2.4, 'ls': (0, (4, 2)) if last else '-'}


def _shade_beyond(axis: Axes, bound: float) -> None:
    """Shade what lies beyond a symmetric bound where the picture reaches it."""
    low, high = axis.get_ylim()
    for edge, outside in ((bound, high), (-bound, low)):
        reach = edge + 0.25 * (outside - edge) if abs(outside) > abs(edge) else outside
        if abs(outside) > 0.8 * bound:
            limit = max(abs(reach), 1.08 * bound) * np.sign(edge)
            axis.axhline(edge, color=MUTED, lw=0.9, zorder=1)
            axis.axhspan(*sorted((edge, limit)), color=FORBIDDEN, lw=0, zorder=0)
            low, high = min(low, limit), max(high, limit)
    axis.set_ylim(low, high)


def _draw_highest_rotor(
    axis: Axes,
    flights: Mapping[str, Flight],
    colours: Sequence[str],
    limits: Limits,
    time_step: float,
) -> None:
    for i, (flight, colour) in enumerate(zip(flights.values(), colours, strict=True)):
        times = np.arange(flight.steps) * time_step
        axis.plot(times, flight.inputs.max(axis=1), color=colour, **_stroke(i, len(flights)))
    axis.set_title('fastest rotor [rad/s]')
    low, high = axis.get_ylim()
    reach = limits.rotor_max + 0.08 * (high - low)
    axis.axhline(limits.rotor_max, color=MUTED, lw=0.9, zorder=1)
    axis.axhspan(limits.rotor_max, reach, color=FORBIDDEN, lw=0, zorder=0)
    axis.set_ylim(low, max(high, reach))


def draw_training(folder: Path) -> Path:
    """Draw one training run next to its results: cost, objective and violation over the iterations.

    Where the rule foretells changes of J, they are drawn against those that came.

    Raises:
        ResultsError: the results are damaged.
        ValueError: there is no finished iteration yet.
    """
    header, records = read_records(folder)
    if not records:
        raise ValueError(f'{folder} holds no finished iteration yet')
    by_iteration = {record['k']: record for record in records}
    k = np.array(sorted(by_iteration), dtype=float)
    shown = [by_iteration[each] for each in sorted(by_iteration)]
    C, V, J = (_finite([number(record[key]) for record in shown]) for key in 'CVJ')
    accepted = np.array([record.get('accepted', True) for record in shown])
    predicted, measured = (
        np.array([np.nan if (v := record.get(f'{key}_change')) is None else v for record in shown])
        for key in ('predicted', 'measured')
    )
    foretold = np.isfinite(predicted).any()
    learner = header['configuration']['learner']
    of_estimates = learner['rule'] in ('paper', 'adam')
    rule = learner['estimator' if of_estimates else 'rule'].replace('_', ' ')
    start, end = shown[0], shown[-1]
    title = f'J from {number(start["J"]):.2f} to {number(end["J"]):.2f} in {end["flights"]} flights'
    subtitle = f'{rule}, seed {learner["seed"]}, {len(iterations(records))} iterations'
    ratios, width = ((1.7, 1, 0.85), 14.6) if foretold else ((1, 1), 12.4)
    path = folder / 'learning.png'
    with page(path, (width, 4.6)) as figure:
        axes = figure.subplots(1, len(ratios), gridspec_kw={'width_ratios': ratios})
        left, right = axes[:2]
        figure.subplots_adjust(left=0.055, right=0.98, top=0.78, bottom=0.12, wspace=0.2)
        if foretold:
            _draw_changes(axes[2], predicted, measured)
        head(figure, title, subtitle, heights=(0.94, 0.875))
        best = np.fmin.accumulate(np.where(accepted, J, np.inf))
        left.plot(k, C, color=BLUE, label='C')
        left.plot(k, J, color=ORANGE, label='J = C + penalty V')
        left.plot(k, best, color=INK, lw=0.9, ls=(0, (4, 3)), label='lowest J kept')
        if not accepted.all():
            refused = ~accepted
            left.plot(k[refused], J[refused], 'x', color=INK, ms=5, label='rolled back')
        left.set_title('Cost')
        right.plot(k, V, color=GREEN)
        right.set_title('Violation V of the state bounds')
        right.set_ylim(bottom=0)
        left.legend(loc='lower right', bbox_to_anchor=(1.01, 0.975), ncols=4)
        for axis in (left, right):
            axis.set_xlabel('iteration')
            axis.set_xlim(0, max(1, k[-1]))
            axis.xaxis.get_major_locator().set_params(integer=True)
        finite = np.concatenate([C[np.isfinite(C)], J[np.isfinite(J)]])
        if finite.size:
            low, high = finite.min(), min(finite.max(), 1.3 * np.median(finite))
            left.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9)
    return path


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


def _draw_changes(
    axis: Axes, predicted: NDArray[np.float64], measured: NDArray[np.float64]
) -> None:
    """Draw what was foretold of J against what came of it: on the diagonal it was right."""
    known = np.isfinite(predicted) & np.isfinite(measured)
    reach = 1.5 * max(1.0, float(np.max(np.abs([predicted[known], measured[known]]), initial=0.0)))
    axis.plot([-reach, reach], [-reach, reach], color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axis.axhline(0, color=MUTED, lw=0.6, zorder=1)
    axis.plot(predicted[known], measured[known], 'o', color=BLUE, ms=4, alpha=0.6, mew=0)
    for scale, limit in ((axis.set_xscale, axis.set_xlim), (axis.set_yscale, axis.set_ylim)):
        scale('symlog', linthresh=0.1)
        limit(-reach, reach)
    ticks = [v for v in (-100, -10, -1, 0, 1, 10, 100) if abs(v) < reach]
    axis.set_xticks(ticks, [f'{v:g}' for v in ticks])
    axis.set_yticks(ticks, [f'{v:g}' for v in ticks])
    axis.set_title('Change of J, as measured')
    axis.set_xlabel('as predicted')
