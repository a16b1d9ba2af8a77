"""The picture of the study of model mismatch: who is ahead where, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from hmpc_ros.figures.page import head, page
from hmpc_ros.figures.style import BLUE, INK, MUTED, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hmpc_ros.figures.benchmark import Rules

WIDTH, ROW, REST = 13.2, 0.62, 2.3  # inch
AHEAD, BEHIND, NOTHING = BLUE, PURPLE, '#F3F4F6'
# The other hybrids differ from this one by less than a line is wide.
DRAWN = ('model_free', 'hybrid_050', 'model_only', 'adam', 'trust_region')
STRONG = 0.5  # change at which a cell has its full colour
TICKS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)  # percent


def draw_mismatch(
    path: Path,
    summary: Mapping[str, Any],
    rules: Rules,
    verdict: Callable[[Mapping[str, Any]], str],
    *,
    title: str,
    subtitle: str,
    rows: Mapping[str, str],
    values: Mapping[str, Callable[[float], str]],
) -> Path:
    """Draw the summary of ``hmpc study mismatch``.

    Args:
        path: Picture to write.
        summary: See `hmpc_ros.studies.mismatch_summary.summarise`.
        rules: All rules by name.
        verdict: Says of a level's comparison who is ahead: ``ahead``, ``behind`` or ``open``.
        title: First line: the answer.
        subtitle: Second line.
        rows: What directions are called, by name.
        values: How a value of a direction is written, by name.

    Returns:
        The path that was written.
    """
    levels = summary['levels']
    shown = [name for name in rows if any(level['direction'] == name for level in levels)]
    columns = sorted({round(level['share'], 6) for level in levels if level['direction'] in shown})
    columns = _columns(columns)
    height = REST + ROW * (len(shown) + 1)
    with page(path, (WIDTH, height)) as figure:
        head(figure, title, subtitle, left=0.02, heights=(1 - 0.32 / height, 1 - 0.66 / height))
        bottom, top = 0.75 / height, 1 - 1.35 / height
        left = figure.add_axes((0.165, bottom, 0.455, top - bottom))
        _draw_cells(left, levels, shown, columns, verdict, rows, values)
        right = figure.add_axes((0.685, bottom, 0.185, top - bottom))
        _draw_rules(right, levels, columns, rules)
    return path


def _columns(shares: list[float]) -> list[float]:
    """Return the places of the levels: those of directions with few values have no own."""
    steps = max(len(shares), 2)
    for count in range(2, steps + 1):
        grid = np.linspace(0, 1, count)[1:]
        if sum(np.abs(grid - s).min() < 1e-5 for s in shares) >= count - 1:
            best = grid.tolist()
    return best if shares else [1.0]


def _column(share: float, columns: list[float]) -> int:
    """Return 0 without mismatch, else 1, 2, ...: the nearest."""
    return 0 if share == 0 else 1 + int(np.argmin(np.abs(np.array(columns) - share)))


def _draw_cells(
    axis: Axes,
    levels: list[Mapping[str, Any]],
    shown: list[str],
    columns: list[float],
    verdict: Callable[[Mapping[str, Any]], str],
    rows: Mapping[str, str],
    values: Mapping[str, Callable[[float], str]],
) -> None:
    """Draw directions down, levels across: blue where the hybrid is ahead."""
    white = np.ones(3)
    for level in levels:
        nominal = level['direction'] not in shown
        for y in range(len(shown)) if nominal else [shown.index(level['direction'])]:
            x = _column(level['share'], columns)
            hybrid = level.get('hybrid') or {}
            known = hybrid.get('change') is not None
            face, text, bold, dark = NOTHING, 'does not fly', False, False
            if known and verdict(hybrid) == 'same':
                known, text = False, 'neither learns'
            elif known:
                change, bold = hybrid['change'], verdict(hybrid) != 'open'
                strength = 0.25 + 0.75 * min(1.0, abs(change) / STRONG) ** 0.5 if bold else 0.12
                full = np.array(mpl.colors.to_rgb(AHEAD if change < 0 else BEHIND))
                face, dark = mpl.colors.to_hex(white + strength * (full - white)), strength > 0.6
                text = _percent(change)
            elif level['flies']:
                text = 'neither flies'
            axis.add_patch(
                mpl.patches.Rectangle((x - 0.47, y - 0.43), 0.94, 0.86, color=face, lw=0)
            )
            axis.text(
                x, y + 0.08, text, ha='center', va='center', fontsize=9.5 if known else 7.5,
                color='white' if dark else INK if known else MUTED,
                fontweight='bold' if bold else 'normal',
            )  # fmt: skip
            if not nominal:
                shown_value = values[level['direction']](level['value'])
                axis.text(
                    x, y - 0.26, shown_value, ha='center', va='center', fontsize=7,
                    color='white' if dark else MUTED,
                )  # fmt: skip
            foretold = hybrid.get('foretold')
            if bold and foretold is not None and (foretold < 1) != (hybrid['change'] < 0):
                axis.plot(x + 0.39, y + 0.3, 'v', color='white' if dark else INK, ms=4)
    axis.set_xlim(-0.5, len(columns) + 0.5)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_yticks(range(len(shown)), [rows[name] for name in shown], fontsize=9.5)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.set_xlabel('the model gets worse  →', color=MUTED, loc='right')
    what = 'J over all flights, hybrid against zeroth order: blue saves, purple costs'
    axis.set_title(what, pad=10)
    axis.text(
        0, -0.045, 'bold: beyond what seeds make (95 %) · ▾ not as bias and variance foretell',
        transform=axis.transAxes, fontsize=8, color=MUTED, va='top',
    )  # fmt: skip
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _percent(change: float) -> str:
    percent = 100 * change
    return f'{percent:+.0f} %' if abs(percent) >= 9.5 else f'{percent:+.1f} %'


def _draw_rules(
    axis: Axes, levels: list[Mapping[str, Any]], columns: list[float], rules: Rules
) -> None:
    """Draw the last J over the best of a level: the median of all directions."""
    ends: list[tuple[float, str, str]] = []
    found = [name for name in DRAWN if any(name in level['excess'] for level in levels)]
    for name in found:
        at: dict[int, list[float]] = {}
        for level in levels:
            excess = level['excess'].get(name)
            if level['flies']:
                at.setdefault(_column(level['share'], columns), []).append(
                    np.inf if excess is None else 100 * excess
                )
        x = sorted(at)
        y = np.array([np.median(at[each]) for each in x])
        seen = np.isfinite(y)
        thick = 2.8 if name == 'trust_region' else 1.6
        axis.plot(np.array(x)[seen], y[seen], color=rules[name].colour, lw=thick, marker='o', ms=3)
        if seen.any():
            ends.append((float(y[seen][-1]), rules[name].label, rules[name].colour))
    axis.set_yscale('symlog', linthresh=5)
    top = max([end for end, _, _ in ends] + [10.0])
    axis.set_ylim(-0.4, 1.6 * max(top, *(line.get_ydata().max() for line in axis.lines)))
    limit = axis.get_ylim()[1]
    ticks = [tick for tick in TICKS if tick <= limit]
    axis.set_yticks(ticks, [f'{tick:g} %' for tick in ticks])
    axis.set_yticks([], minor=True)
    axis.set_xlim(-0.1, len(columns) + 0.1)
    axis.set_xticks([0, len(columns)], ['no mismatch', 'worst'])
    axis.set_title('Last J over the best', pad=10)
    _name_ends(axis, ends)


def _name_ends(axis: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write the rules' names right of their lines, apart from each other."""
    to_axes = axis.transData + axis.transAxes.inverted()
    places = [(to_axes.transform((0, end))[1], name, colour) for end, name, colour in sorted(ends)]
    step, heights = 0.062, [y for y, _, _ in places]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + step)
    for i in reversed(range(len(heights))):  # and none above the picture
        above = heights[i + 1] - step if i + 1 < len(heights) else 1.0
        heights[i] = min(heights[i], above)
    for y, (_, name, colour) in zip(heights, places, strict=True):
        axis.text(
            1.03, y, name, transform=axis.transAxes, color=colour, fontsize=9, va='center'
        )
