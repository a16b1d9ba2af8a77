"""The page of the study of model mismatch for the documentation, in Markdown."""
# ruff: noqa: E501  Lines are as long as those of the other pages.

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hmpc_ros.figures.mismatch import draw_mismatch
from hmpc_ros.studies.mismatch import DIRECTIONS, LINES, RULES, Line, sessions
from hmpc_ros.studies.mismatch_pieces import DELTAS, RADIUS, STEP, WINDOW
from hmpc_ros.studies.mismatch_summary import (
    Summary,
    answer,
    levels_table,
    rules_table,
    subtitle,
    task,
    title,
    verdict,
)
from hmpc_ros.studies.mismatch_tracking import STEP as TRACKING_STEP


def page(summary: Summary, made: Sequence[Line], picture: str) -> str:
    """Write the page of the documentation, in Markdown."""
    counts = answer(summary)
    rows = '\n'.join(
        f'| {DIRECTIONS[name].label} | '
        + ' | '.join(
            'nowhere' if value is None else DIRECTIONS[name].shown(value)
            for value in (counts['leads'][name], counts['stops'][name])
        )
        + ' |'
        for name in counts['stops']
    )
    where = '; '.join(
        f'commit {each["commit"] or "unknown"} on {each["machine"]}, {each["date"]}' for each in made
    )
    part = (
        f'{summary["pieces"]} of the {summary["planned"]} pieces that were asked for are finished.'
        if summary['pieces'] < summary['planned']
        else f'All {summary["planned"]} pieces that were asked for are finished.'
    )
    where_to = ' along a path' if summary['policy'] == 'tracking' else ''
    return f"""# How wrong may the model be{where_to}?

**{title(summary)}.**

{_reading(summary)}

What the words mean, where each number is computed, and what the theorem covers: [the theory](../explanation/theory.md).

![The rules as the model gets worse]({picture})

Runs of {summary['flights']} flights {task(summary)}, seeds {_seeds(summary['seeds'])},
{len(summary['levels'])} levels. {part} Made at {where}, by
`{summary['command']}`.

## Where the hybrid stops to be ahead

The last level at which the hybrid (γ = 0.5) is ahead of the zeroth-order rule beyond what seeds make, and the first
at which it is behind. Levels between, and levels of neither, are not decided.

| mismatch | ahead up to | behind from |
|---|---|---|
{rows}

## The rules

Over all levels where anything flies: median of the levels (95 % interval by bootstrap over levels), of each the
median of its seeds. *J over the best*: of the best weights after the last flight, over the best that any rule found
there. *Area under J*: the same, mean over all flights. *Diverged*: runs that ended since a flight had no cost.
*p*: Wilcoxon's signed-rank test of the area against the zeroth-order rule, paired by level, Holm's correction.
*Goldstein*: shortest convex combination of true gradients within {RADIUS:g} of the final weights. Settling, IAE,
ISE, overshoot, V, RMSE (true): of the flight with the best weights.

{rules_table(summary)}
## The levels

*ε*: largest one-step error of the model along the flight with the start weights, in units of the states' bounds (a
metre, 2 m/s, ...); *of A, of B*: of its Jacobians. *Contraction*: largest growth per step of the closed loop over
{WINDOW} steps. *cos, ratio*: of the model's gradient and central differences. *m, ζ*: of the tightest bound
|g_m − g|² ≤ m |g|² + ζ² over all gradients that runs followed there. *Σ α η bias*: what the model's error moved the
weights in all. *Best trust*: of inverse-variance mixing. *Foretold*: mean squared error of the hybrid's gradient
over the zeroth-order one's; below 1 the hybrid should be ahead. *Hybrid against zeroth order*: mean J over all flights
of the one over that of the other, less 1 (95 % interval by bootstrap over seeds); negative: the hybrid is ahead.

{levels_table(summary)}
{_checks(summary)}

Raw data: `{LINES}` in the study's folder, one line of JSON per run and per level.
"""


def _checks(summary: Summary) -> str:
    """Say what the gradients are that the model's is compared with."""
    if summary['policy'] == 'tracking':
        return (
            f'The model is compared with central differences of flights, {TRACKING_STEP:g} apart in the '
            'logarithms that the rules change; errors along the flight and trusts are measured on '
            'the reference experiment only.'
        )
    measured = [level['measured'] for level in summary['levels'] if level['measured']]
    smooth, rough = (
        [each['check'] for each in measured if (each['contraction'] < 1) == contracts]
        for contracts in (True, False)
    )
    flat = [
        f'{np.median(known):.2g} at δ = {delta:g}'
        for delta in DELTAS
        if (known := [
            each['variance'][f'{delta:g}'] for each in measured
            if f'{delta:g}' in each.get('variance', {})
        ])
    ]  # fmt: skip
    return f"""The true gradient, by which all of this is judged, agrees with central differences of flights, where the closed loop
contracts, to {max(smooth, default=math.nan):.1g} at worst; where it does not, J is rough at their step of {STEP:g}, and they differ by up to
{max(rough, default=math.nan):.1g}.
The variance of the zeroth-order estimate over (n − 1) |g|², which it is where J is linear: {', '.join(flat)}."""


def _reading(summary: Summary) -> str:
    """Say in words what bias and variance foretell, and what came."""
    counts = answer(summary)
    known = [level['hybrid'] for level in summary['levels'] if level.get('hybrid')]
    ratios = [hybrid['foretold'] for hybrid in known if hybrid['foretold'] is not None]
    trusts = [hybrid['best_trust'] for hybrid in known if hybrid['best_trust'] is not None]
    outcome = (
        f'Where the hybrid (γ = 0.5) and the zeroth-order rule differ by more than seeds make, the '
        f'hybrid is ahead at {counts["ahead"]} levels and behind at {counts["behind"]}; at '
        f'{counts["open"]} the seeds do not decide, at {counts["same"]} neither got away from its '
        f'start.'
    )
    if not ratios:
        return outcome
    good, (first, last) = sum(ratio < 1 for ratio in ratios), np.median(trusts, axis=0)
    a, b, c, d = counts['contracting']
    return (
        f'{outcome}\n\nBias and variance (inverse-variance mixing) foretell the hybrid ahead at {good} '
        f'of {len(ratios)} levels: its mean squared error over the zeroth-order one\'s is '
        f'{np.median(ratios):.2f} in the median, {max(ratios):.2f} at most, and the best trust '
        f'{first:.2f} at first, {last:.2f} at last. Of the {counts["foretold"]} levels that are '
        f'decided that is right at {counts["agree"]}. '
        + (
            'So a better gradient on average is not what decides within so few flights: at most '
            'levels it shows in no J. '
            if counts['open'] > counts['agree']
            else ''
        )
        + f'Where the closed loop contracts, the hybrid is ahead at {a} and behind at {b}; where it '
        f'does not, at {c} and {d}.'
    )


def _seeds(seeds: Sequence[int]) -> str:
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f'{seeds[0]} to {seeds[-1]}' if whole and len(seeds) > 1 else ', '.join(map(str, seeds))


def write(summary: Summary, out: Path, page_file: Path | None = None) -> list[Path]:
    """Write numbers, tables, figure and page of a study into its folder.

    Args:
        summary: See `summarise`.
        out: The folder.
        page_file: Where the page is wanted beside, with the figure next to it.

    Returns:
        What was written.
    """
    made = sessions(out)
    paths = [out / 'summary.json', out / 'table.md']
    paths[0].write_text(json.dumps({**summary, 'sessions': made}, indent=1) + '\n', encoding='utf-8')
    paths[1].write_text(rules_table(summary) + '\n' + levels_table(summary), encoding='utf-8')
    for target in (out / 'study.md', page_file):
        if target is not None:
            picture = draw_mismatch(
                target.with_suffix('.png'), summary, RULES, verdict,
                title=title(summary), subtitle=subtitle(summary),
                rows={name: each.label for name, each in DIRECTIONS.items()},
                values={name: each.shown for name, each in DIRECTIONS.items()},
            )  # fmt: skip
            target.write_text(page(summary, made, picture.name), encoding='utf-8')
            paths += [target, picture]
    return paths
