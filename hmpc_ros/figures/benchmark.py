"""The picture of a benchmark: J over flights for every case, and who came how far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from hmpc_ros.figures.page import page
from hmpc_ros.figures.style import GREEN, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

COLUMNS = 4
WIDTH, PANEL, HEAD, ROW = 12.4, 2.35, 1.35, 0.3  # inches
# A case whose rules span more than this factor is drawn on a logarithmic scale.
WIDE = 1.6
# Where the scale of a case ends, as a factor on the best J, whatever its start was.
HIGHEST = 8.0


#: By name: of each its ``label``, its ``colour``, and whether it is a yardstick, ``knows_vehicle``.
Rules = Mapping[str, Any]


def draw_benchmark(
    path: Path, summary: Mapping[str, Any], known: Rules, winners: Mapping[str, str | None]
) -> Path:
    """Draw what `hmpc_ros.studies.benchmark.summarise` returns.

    ``known`` are all rules by name, ``winners`` the best of those that are no yardstick, by case.
    """
    cases = summary['cases']
    rules = [name for name in known if any(name in found for found in cases.values())]
    rows = -(-len(cases) // COLUMNS)
    matrix = ROW * (len(rules) + 1)
    height = HEAD + PANEL * rows + matrix + 1.05
    with page(path, (WIDTH, height)) as figure:
        figure.text(
            0.045, 1 - 0.3 / height, 'Which rule to use when',
            fontsize=16, fontweight='bold', va='center',
        )  # fmt: skip
        figure.text(
            0.045, 1 - 0.62 / height,
            'J of the best weights flown so far, over the number of flights. '
            f'Line: median of {_seeds(summary)}; shade: up to the worst. '
            'Dashed: knows the vehicle, a yardstick.',
            fontsize=10.5, color=MUTED, va='center',
        )  # fmt: skip
        panels = figure.add_gridspec(
            rows, COLUMNS, left=0.045, right=0.985, hspace=0.55, wspace=0.2,
            top=1 - (HEAD + 0.15) / height, bottom=(matrix + 1.35) / height,
        )  # fmt: skip
        for i, (case, found) in enumerate(cases.items()):
            axis = figure.add_subplot(panels[i // COLUMNS, i % COLUMNS])
            _draw_case(axis, found, summary['starts'][case]['median'], known)
            axis.set_title(f'{case}: {summary["titles"][case]}', fontsize=8.8, pad=16)
            _name_best(axis, found, winners[case], known)
            if i + COLUMNS >= len(cases):
                axis.set_xlabel('flights')
        handles = [
            mpl.lines.Line2D([], [], color=known[name].colour, label=known[name].label,
                             **_stroke(name, known))
            for name in rules
        ]  # fmt: skip
        figure.legend(
            handles=handles, loc='center left', ncols=len(handles),
            bbox_to_anchor=(0.038, 1 - 0.93 / height), columnspacing=1.4, handlelength=1.8,
        )  # fmt: skip
        where = figure.add_axes((0.155, 0.12 / height, 0.83, matrix / height))
        _draw_shares(where, summary, rules, known)
    return path


def _seeds(summary: Mapping[str, Any]) -> str:
    count = len(summary['seeds'])
    return f'{count} seeds' if count > 1 else 'one seed'


def _stroke(rule: str, known: Rules) -> dict[str, Any]:
    if known[rule].knows_vehicle:
        return {'ls': (0, (4, 2)), 'lw': 1.2}
    return {'ls': '-', 'lw': 2.4 if rule == 'trust_region' else 1.5}


def _curve(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values])


def _draw_case(axis: Axes, found: Mapping[str, Any], start: float | None, known: Rules) -> None:
    low, high = np.inf, -np.inf
    for rule in sorted(found, key=list(known).index):
        median, worst = (_curve(found[rule]['curve'][key]) for key in ('median', 'worst'))
        flights = np.arange(1, len(median) + 1)
        colour = known[rule].colour
        shown = np.isfinite(median)
        axis.step(flights, median, where='post', color=colour, **_stroke(rule, known))
        top = np.where(np.isfinite(worst), worst, 1e9)
        axis.fill_between(
            flights[shown], median[shown], top[shown],
            step='post', color=colour, alpha=0.13, lw=0,
        )  # fmt: skip
        if shown.any():
            low = min(low, float(np.nanmin(median)))
            high = max(high, float(np.nanmax(median)))
    axis.set_xscale('log')
    count = max((len(n['curve']['median']) for n in found.values()), default=1)
    axis.set_xlim(1, 1.06 * max(count, 2))  # the last flight's gain must be seen
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= count]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)
    if not np.isfinite(low):
        axis.set_yticks([])
        return
    high = min(high if start is None else max(high, start), HIGHEST * low)
    if high > WIDE * low:
        axis.set_yscale('log')
        axis.set_ylim(low * (low / high) ** 0.06, high * (high / low) ** 0.06)
        ticks_y = [t for t in (1000, 1100, 1200, 1500, 2000, 3000, 5000, 10000) if low <= t <= high]
        axis.set_yticks(ticks_y, [str(tick) for tick in ticks_y])
        axis.set_yticks([], minor=True)
    else:
        margin = 0.06 * (high - low) + 1e-6 * low
        axis.set_ylim(low - margin, high + margin)


def _name_best(axis: Axes, found: Mapping[str, Any], best: str | None, known: Rules) -> None:
    """Write under a panel's title which rule won, and where it arrived."""
    if best is None or (J := found[best]['J']['median']) is None:
        return
    axis.annotate(
        f'best: {known[best].label}, {J:.1f}', (0, 1), xycoords='axes fraction', xytext=(0, 5),
        textcoords='offset points', fontsize=8, color=known[best].colour, fontweight='bold',
    )  # fmt: skip


def _draw_shares(axis: Axes, summary: Mapping[str, Any], rules: list[str], known: Rules) -> None:
    """Draw who got which share of what was to be gained: rules down, cases across."""
    cases = summary['cases']
    low, high = np.array([1.0, 1.0, 1.0]), np.array(mpl.colors.to_rgb(GREEN))
    for column, (case, found) in enumerate(cases.items()):
        start = summary['starts'][case]['median']
        finals = {rule: found[rule]['J']['median'] for rule in found}
        best = min((J for J in finals.values() if J is not None), default=None)
        for row, rule in enumerate(rules):
            if rule not in finals or best is None:
                _cell(axis, column, row, '—', low)
                continue
            J = finals[rule]
            if J is None:
                _cell(axis, column, row, 'does not fly', low, colour='#B42318')
                continue
            # The start's J says nothing when it does not fly: whatever flies has gained all but
            # what is missing to the best.
            gain = best / J if start is None else (start - J) / max(start - best, 1e-9)
            share = float(np.clip(gain, 0, 1))
            shade = low + 0.75 * share**2 * (high - low)
            _cell(axis, column, row, f'{100 * share:.0f} %', shade, bold=share > 0.97)
    axis.set_xlim(-0.5, len(cases) - 0.5)
    axis.set_ylim(len(rules) - 0.5, -0.5)
    axis.set_xticks(range(len(cases)), list(cases))
    axis.set_yticks(range(len(rules)), [known[name].label for name in rules])
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(
        f'Share of what the best rule gains in {summary["flights"]} flights (median)', pad=20
    )


def _cell(
    axis: Axes,
    column: int,
    row: int,
    text: str,
    shade: NDArray[np.float64],
    colour: str = INK,
    bold: bool = False,
) -> None:
    axis.add_patch(
        mpl.patches.Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=tuple(shade), lw=0)
    )
    axis.text(
        column, row, text, ha='center', va='center', color=colour,
        fontsize=8, fontweight='bold' if bold else 'normal',
    )  # fmt: skip
