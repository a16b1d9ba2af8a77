"""The study of model mismatch in numbers: who is ahead where, what was foretold, tables, page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.results import number
from hmpc_ros.policy.linear.weights import N_THETA
from hmpc_ros.studies.mismatch import DIRECTIONS, NOMINAL, RULES, Line
from hmpc_ros.studies.mismatch_pieces import DELTAS, accumulated_bias
from hmpc_ros.studies.statistics import bias_bound, holm, interval, or_none, paired

if TYPE_CHECKING:
    from hmpc_ros.studies.mismatch import Plan

HYBRID, FREE = 'hybrid_050', 'model_free'
#: Of a run's last best flight: heading, factor and unit; along a path there is the error alone.
FINAL: dict[str, tuple[str, float, str]] = {
    'settling': ('settling [s]', 1, ''),
    'iae': ('IAE [m s]', 1, ''),
    'ise': ('ISE [m² s]', 1, ''),
    'overshoot': ('overshoot', 100, ' %'),
    'V': ('V', 1, ''),
    'goldstein': ('Goldstein', 1, ''),
    'rmse': ('RMSE [mm]', 1000, ''),
}
NEAR = 1.05  # times the best J within which a rule has arrived
Place = tuple[str, float]
Summary = dict[str, Any]


def summarise(plan: Plan, lines: Sequence[Line]) -> Summary:
    """Put the finished lines of a study into numbers, by level and by rule.

    A run whose seed does not matter stands for all seeds. Runs are compared within a level and a
    seed: with the best that any rule came to there.
    """
    runs: dict[Place, dict[int, dict[str, Line]]] = {}
    levels: dict[Place, list[Line]] = {}
    for line in lines:
        place = (line['direction'], line['value'])
        if line['kind'] == 'level':
            levels.setdefault(place, []).append(line)
            continue
        every = plan.random(line['direction'], line['rule'])
        for seed in [line['seed']] if every else plan.seeds:
            runs.setdefault(place, {}).setdefault(seed, {})[line['rule']] = line
    # A seed is compared where all rules that were asked for have run with it.
    whole = {
        place: [of[seed] for seed in sorted(of) if set(of[seed]) >= set(plan.rules)]
        for place, of in runs.items()
    }
    whole = {place: seeds for place, seeds in whole.items() if seeds}
    found = [
        _level(place, whole[place], levels.get(place, []), plan.policy)
        for place in sorted(whole, key=_order)
    ]
    return {
        'command': plan.command,
        'policy': plan.policy,
        'flights': plan.flights,
        'seeds': list(plan.seeds),
        'levels': found,
        'rules': _rules(plan.rules, whole),
        'pieces': len(lines),
        'planned': len(plan.pieces()),
    }


def _order(place: Place) -> tuple[int, float]:
    names = [NOMINAL, *DIRECTIONS]
    return names.index(place[0]), place[1]


# -- outcomes --------------------------------------------------------------------------------------


def outcome(run: Line, best: float) -> dict[str, float]:
    """Return how a run went, beside the best J of its level and seed.

    Returns:
        ``excess`` of its last J over the best, and ``area``, the mean excess over all flights, both
        as a share of the best; ``arrival``, the flights to 5 % of it (one more than there were:
        never); ``diverged`` 0 or 1; and of the final flight `transient`'s numbers and V.
    """
    J = np.array([number(value) for value in run['curve']])
    near = np.flatnonzero(J <= NEAR * best)
    final = run['final'] or {}
    numbers = {
        'excess': float(J[-1] / best - 1),
        'area': float(np.mean(J) / best - 1),
        'arrival': float(near[0] + 1 if near.size else len(J) + 1),
        'diverged': float(bool(run['diverged'])),
    }
    for name in FINAL:
        numbers[name] = number(final.get(name))
    return numbers


def _best(seed: Mapping[str, Line]) -> float:
    return min(number(run['curve'][-1]) for run in seed.values())


def _outcomes(seeds: Sequence[Mapping[str, Line]], rule: str) -> list[dict[str, float]]:
    """Return the outcomes of a rule at a level, by seed; none where nothing flies."""
    return [outcome(seed[rule], _best(seed)) for seed in seeds if math.isfinite(_best(seed))]


def _rules(
    names: Sequence[str], whole: Mapping[Place, Sequence[Mapping[str, Line]]]
) -> dict[str, Any]:
    """Return what each rule comes to over all levels where anything flies."""
    of_rules: dict[str, Any] = {}
    areas: dict[str, list[float]] = {}
    for rule in names:
        by_level = [_outcomes(seeds, rule) for seeds in whole.values()]
        by_level = [each for each in by_level if each]
        if not by_level:
            continue
        keys = list(by_level[0][0])
        # The median of a level's seeds stands for the level: levels are what differ.
        medians = {
            key: [float(np.median([each[key] for each in level])) for level in by_level]
            for key in keys
        }
        areas[rule] = medians['area']
        of_rules[rule] = {'label': RULES[rule].label, 'levels': len(by_level)}
        for key, values in medians.items():
            low, high = interval(values)
            of_rules[rule][key] = {
                'median': or_none(np.median(values)), 'low': or_none(low), 'high': or_none(high),
                'mean': or_none(float(np.mean(values))),
            }  # fmt: skip
    others = [rule for rule in areas if rule != FREE and FREE in areas]
    raw = [paired(areas[rule], areas[FREE]) for rule in others]
    for rule, p in zip(others, holm(raw), strict=True):
        of_rules[rule]['p'] = p
        of_rules[rule]['ahead'] = int(np.sum(np.less(areas[rule], areas[FREE])))
    return of_rules


# -- a level ---------------------------------------------------------------------------------------


def _level(
    place: Place,
    seeds: Sequence[Mapping[str, Line]],
    measured: Sequence[Line],
    policy: str,
) -> Summary:
    """Return what was measured at a level, and who was how far ahead."""
    direction, value = place
    some = next(iter(seeds[0].values()))
    found: Summary = {
        'policy': policy,
        'direction': direction,
        'value': value,
        'share': some['share'],
        'seeds': len(seeds),
        'flies': any(math.isfinite(_best(seed)) for seed in seeds),
        'excess': {},
        'measured': _measured(measured),
    }
    for rule in seeds[0]:
        known = _outcomes(seeds, rule)
        if known:
            found['excess'][rule] = or_none(np.median([each['excess'] for each in known]))
    gradients = [g for seed in seeds for run in seed.values() for g in run['gradients']]
    m, zeta = bias_bound([g['true'] for g in gradients], [g['bias'] for g in gradients])
    found['bound'] = {'m': m, 'zeta': zeta, 'points': len(gradients)}
    if {HYBRID, FREE} <= set(seeds[0]) and found['flies']:
        found['hybrid'] = _compared(seeds)
    return found


def _compared(seeds: Sequence[Mapping[str, Line]]) -> Summary:
    """Return how far the hybrid is ahead of the zeroth-order rule, and what was foretold of it."""
    areas = [
        [float(np.mean([number(J) for J in seed[rule]['curve']])) for rule in (HYBRID, FREE)]
        for seed in seeds
    ]
    changes = [hybrid / free - 1 for hybrid, free in areas if math.isfinite(min(hybrid, free))]
    known = [change for change in changes if math.isfinite(change)]
    low, high = interval(known) if known else (math.nan, math.nan)
    foretold = [r for seed in seeds if (r := foretold_ratio(seed[HYBRID]['gradients'])) is not None]
    trusts = [t for seed in seeds if (t := best_trusts(seed[HYBRID]['gradients'])) is not None]
    moved = [
        total[-1] for seed in seeds if (total := accumulated_bias(seed[HYBRID]['gradients']))
    ]
    return {
        'change': or_none(np.median(known)) if known else None,
        'low': or_none(low),
        'high': or_none(high),
        'foretold': or_none(np.median(foretold)) if foretold else None,
        'best_trust': np.median(trusts, axis=0).tolist() if trusts else None,
        'moved_by_bias': or_none(np.median(moved)) if moved else None,
    }


def variance_of(gradient: float) -> float:
    """Return the zeroth-order estimate's variance, (n - 1) |g|^2 where J is linear in the ball."""
    return (N_THETA - 1) * gradient**2


def foretold_ratio(gradients: Sequence[Mapping[str, float]]) -> float | None:
    """Return the hybrid's mean squared error over the zeroth-order one's, over a run.

        E|eta g_m + (1 - eta) g_free - g|^2 = eta^2 |bias|^2 + (1 - eta)^2 V

    Below 1, bias and variance say that the hybrid is ahead. None without any gradient.
    """
    V = sum(variance_of(g['true']) for g in gradients)
    if not V:
        return None
    mixed = sum(
        (g['trust'] * g['bias']) ** 2 + (1 - g['trust']) ** 2 * variance_of(g['true'])
        for g in gradients
    )
    return mixed / V


def best_trusts(gradients: Sequence[Mapping[str, float]]) -> tuple[float, float] | None:
    """Return the trust of inverse-variance mixing, V / (V + |bias|^2), first and last of a run."""
    if not gradients:
        return None
    V = [variance_of(g['true']) for g in gradients]
    found = [
        v / (v + g['bias'] ** 2) if v + g['bias'] ** 2 > 0 else 1.0
        for v, g in zip(V, gradients, strict=True)
    ]
    return found[0], found[-1]


def _measured(lines: Sequence[Line]) -> Summary | None:
    """Return the medians over seeds of what was measured with the start weights."""
    flown = [line for line in lines if line['flies']]
    if not flown:
        return None
    found: Summary = {
        name: float(np.median([line[name] for line in flown]))
        for name in (
            'error', 'error_A', 'error_B', 'contraction', 'contraction_believed', 'check',
        )
        if name in flown[0]
    }  # fmt: skip
    found['cosine'] = float(np.median([line['differences']['cosine'] for line in flown]))
    for name, part in (('ratio', 'model'), ('bias', 'bias')):
        ratios = [line['differences'][part] / line['differences']['true'] for line in flown]
        found[name] = float(np.median(ratios))
    if 'goldstein' not in flown[0]:  # along a path
        return found
    ends = [number(line['goldstein']) / line['gradients']['true'] for line in flown]
    found['goldstein'] = or_none(np.median(ends))
    for delta in DELTAS:
        every = (each for line in flown for each in line['variance'])
        known = [each['over_linear'] for each in every if each['delta'] == delta]
        if known:
            found.setdefault('variance', {})[f'{delta:g}'] = float(np.median(known))
    return found


# -- the answer ------------------------------------------------------------------------------------


def answer(summary: Summary) -> dict[str, Any]:
    """Count where the hybrid is ahead, and where that was foretold.

    Returns:
        How many levels have each `verdict`; ``compared``, all of them; of those where the hybrid is
        ahead or behind, ``foretold`` that have a foretold ratio, and ``agree``; ``contracting``,
        the counts of ahead and behind where the closed loop contracts, and where it does not; and
        of each direction ``leads``, the last value at which the hybrid is ahead, and ``stops``, the
        first one at which it is behind, None: nowhere.
    """
    both = (level for level in summary['levels'] if level.get('hybrid'))
    compared = [level for level in both if level['hybrid']['change'] is not None]
    verdicts = {_key(level): verdict(level['hybrid']) for level in compared}
    decided = [level for level in compared if verdicts[_key(level)] in ('ahead', 'behind')]
    foretold = [level for level in decided if level['hybrid']['foretold'] is not None]
    agree = [
        (level['hybrid']['foretold'] < 1) == (level['hybrid']['change'] < 0) for level in foretold
    ]
    leads: dict[str, float | None] = {}
    stops: dict[str, float | None] = {}
    for level in summary['levels']:
        name, said = level['direction'], verdicts.get(_key(level))
        if name != NOMINAL:
            leads.setdefault(name, None)
            stops.setdefault(name, None)
            if said == 'ahead':
                leads[name] = level['value']
            elif said == 'behind' and stops[name] is None:
                stops[name] = level['value']
    counts = {n: list(verdicts.values()).count(n) for n in ('ahead', 'behind', 'open', 'same')}
    loops = {True: [0, 0], False: [0, 0]}
    for level in decided:
        if 'contraction' in (level['measured'] or {}):
            contracts = level['measured']['contraction'] < 1
            loops[contracts][verdicts[_key(level)] == 'behind'] += 1
    return {
        **counts, 'compared': len(compared), 'agree': sum(agree), 'foretold': len(foretold),
        'contracting': [*loops[True], *loops[False]], 'leads': leads, 'stops': stops,
    }  # fmt: skip


def verdict(hybrid: Mapping[str, Any]) -> str:
    """Say whether the hybrid is ahead or behind.

    Or the same, where neither rule got anywhere; or open, where the interval over seeds has both.
    """
    if hybrid['change'] == hybrid['low'] == hybrid['high'] == 0:
        return 'same'
    if hybrid['low'] is None or hybrid['low'] * hybrid['high'] <= 0:
        return 'open'
    return 'ahead' if hybrid['high'] < 0 else 'behind'


def _key(level: Summary) -> Place:
    return level['direction'], level['value']


# -- tables and page -------------------------------------------------------------------------------


def rules_table(summary: Summary) -> str:
    """Write what the rules came to, in Markdown."""
    tracking = summary['policy'] == 'tracking'
    final = {name: how for name, how in FINAL.items() if (name == 'rmse') == tracking}
    heads = [
        'rule', 'J over the best', 'area under J', 'flights to 5 %',
        *(head for head, _, _ in final.values()), 'diverged', 'ahead of zeroth order', 'p (Holm)',
    ]  # fmt: skip
    lines = [f'| {" | ".join(heads)} |', f'|{"---|" * len(heads)}']
    last = summary['flights']
    for each in summary['rules'].values():
        arrival = each['arrival']
        late = arrival['median'] is None or arrival['median'] > last
        cells = [
            each['label'],
            _spread(each['excess'], 100, ' %'),
            _spread(each['area'], 100, ' %'),
            f'> {last}' if late else _spread(arrival),
            *(_spread(each[name], factor, unit) for name, (_, factor, unit) in final.items()),
            f'{100 * each["diverged"]["mean"]:.0f} %',
            f'{each["ahead"]} of {each["levels"]}' if 'ahead' in each else '—',
            f'{each["p"]:.2g}' if 'p' in each else '—',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _spread(numbers: Mapping[str, float | None], factor: float = 1, unit: str = '') -> str:
    median, low, high = (numbers[name] for name in ('median', 'low', 'high'))
    if median is None:
        return 'never'
    text = f'{factor * median:.3g}{unit}'
    if low == high:
        return text
    ends = ('never' if end is None else f'{factor * end:.3g}' for end in (low, high))
    return f'{text} ({" – ".join(ends)})'


def levels_table(summary: Summary) -> str:
    """Write what was measured at each level, and who was ahead, in Markdown."""
    heads = [
        'mismatch', 'level', 'ε', 'ε of A', 'ε of B', 'contraction', 'cos', 'ratio', 'm', 'ζ',
        'Σ α η bias', 'best trust, first and last', 'foretold', 'hybrid against zeroth order',
    ]  # fmt: skip
    lines = [f'| {" | ".join(heads)} |', f'|{"---|" * len(heads)}']
    for level in summary['levels']:
        measured, hybrid = level['measured'], level.get('hybrid')
        cells = [*named(level)]
        if measured is None:
            cells += ['has no gradient', *['—'] * 5]
        else:
            names = ('error', 'error_A', 'error_B', 'contraction', 'cosine', 'ratio')
            cells += [f'{measured[name]:.3g}' if name in measured else '—' for name in names]
        bound = level['bound']
        cells += [f'{bound["m"]:.3g}', f'{bound["zeta"]:.3g}'] if bound['points'] else ['—', '—']
        if hybrid is None or hybrid['change'] is None:
            cells += ['—', '—', '—', 'nothing flies' if not level['flies'] else '—']
        else:
            cells += [
                '—' if hybrid['moved_by_bias'] is None else f'{hybrid["moved_by_bias"]:.3g}',
                '—' if hybrid['best_trust'] is None
                else ', '.join(f'{t:.2f}' for t in hybrid['best_trust']),
                '—' if hybrid['foretold'] is None else f'{hybrid["foretold"]:.2f}',
                _change(hybrid),
            ]  # fmt: skip
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def named(level: Summary) -> tuple[str, str]:
    """Return direction and value of a level for people."""
    if level['direction'] == NOMINAL:
        return 'None' if level['policy'] == 'tracking' else 'None but linearity', '0'
    direction = DIRECTIONS[level['direction']]
    return direction.label, direction.shown(level['value'])


def _change(hybrid: Mapping[str, Any]) -> str:
    text = f'{100 * hybrid["change"]:+.3g} %'
    if hybrid['low'] != hybrid['high']:
        text += f' ({100 * hybrid["low"]:+.3g} – {100 * hybrid["high"]:+.3g})'
    return f'{text}, {verdict(hybrid)}'


def title(summary: Summary) -> str:
    """Return the answer in one line."""
    counts, flown = answer(summary), [level for level in summary['levels'] if level['excess']]
    wins: dict[str, int] = {}
    for level in flown:
        best = min(level['excess'], key=lambda rule: number(level['excess'][rule]))
        wins[best] = wins.get(best, 0) + 1
    if not wins:
        return 'Nothing flies'
    rule = max(wins, key=lambda name: wins[name])
    name = RULES[rule].label[0].upper() + RULES[rule].label[1:]
    first = f'{name}: best at {wins[rule]} of {len(flown)} levels of mismatch'
    if not counts['compared']:
        return first
    return f'{first}; hybrid beats zeroth order at {counts["ahead"]}, loses at {counts["behind"]}'


def task(summary: Summary) -> str:
    """Return what is flown, behind the word flights."""
    return 'along a path' if summary['policy'] == 'tracking' else 'of the reference experiment'


def subtitle(summary: Summary) -> str:
    """Return in one line what of, and what of the other levels."""
    counts, seeds = answer(summary), len(summary['seeds'])
    return (
        f'{summary["flights"]} flights {task(summary)}, {seeds} '
        f'{"seeds" if seeds > 1 else "seed"}; at {counts["open"]} levels chance decides between '
        f'hybrid (γ = 0.5) and zeroth order, at {counts["same"]} neither learns'
    )
