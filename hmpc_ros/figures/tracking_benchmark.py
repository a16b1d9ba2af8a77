"""The picture of the tracking benchmark: the error of the best flight over flights, by case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros.figures.page import head, page

COLUMNS = 3


def draw_tracking_benchmark(
    path: Path, summary: Mapping[str, Any], known: Mapping[str, Any]
) -> Path:
    """Draw what `hmpc_ros.studies.tracking_benchmark.summarise` returns.

    ``known`` are all rules by name: their ``label`` and ``colour`` are shown.
    """
    cases = summary['cases']
    rows, columns = max(1, -(-len(cases) // COLUMNS)), min(COLUMNS, max(1, len(cases)))
    size = (13.2, 1.9 + 3.1 * rows)
    with page(path, size) as figure:
        head(
            figure, 'The error of the best flight so far',
            'RMSE of the true position [mm] over flights, all counted. '
            'Line: median of the seeds; shade: their range.',
            heights=(1 - 0.3 / size[1], 1 - 0.62 / size[1]),
        )  # fmt: skip
        grid = figure.add_gridspec(
            rows, columns, left=0.055, right=0.985, top=1 - 1.4 / size[1], bottom=0.55 / size[1],
            hspace=0.42, wspace=0.2,
        )  # fmt: skip
        shown = {}
        for i, case in enumerate(cases.values()):
            axis = figure.add_subplot(grid[i // COLUMNS, i % COLUMNS])
            for rule, numbers in case['rules'].items():
                curves = [c for c in numbers['curves'].values() if c]
                every = np.full((len(curves), max(map(len, curves))), np.nan)
                for row, values in zip(every, curves, strict=True):
                    row[: len(values)] = [np.nan if v is None else 1e3 * v for v in values]
                # As far as all runs got.
                every = every[:, : min(map(len, curves))]
                flights = np.arange(1, every.shape[1] + 1)
                style = {'color': known[rule].colour, 'lw': 2.4 if rule == 'trust_region' else 1.5}
                (line,) = axis.loglog(
                    flights, np.median(every, axis=0), drawstyle='steps-post', **style,
                    marker='o' if every.shape[1] == 1 else None, label=known[rule].label,
                )  # fmt: skip
                axis.fill_between(
                    flights, every.min(axis=0), every.max(axis=0), step='post',
                    color=known[rule].colour, alpha=0.15, lw=0,
                )  # fmt: skip
                shown[rule] = line
            axis.set_title(case['title'])
            ticks = [1, 2, 5, 10, 20, 50, 100]
            most = axis.get_xlim()[1]
            axis.set_xticks([t for t in ticks if t <= most], [str(t) for t in ticks if t <= most])
            axis.set_xticks([], minor=True)
            axis.yaxis.set_major_formatter('{x:g}')
            if i + COLUMNS >= len(cases):
                axis.set_xlabel('flights')
        figure.legend(
            handles=[shown[name] for name in known if name in shown], loc='center left',
            bbox_to_anchor=(0.05, 1 - 0.92 / size[1]), ncols=len(shown),
        )  # fmt: skip
    return path
