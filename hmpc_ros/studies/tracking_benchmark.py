"""What learns to track best: rules and optimisers from PyPI on the tracking MPC, and another.

Every flight counts, those that probe too. What a run has flown so far is judged by the RMSE of its
best flight, against the truth; best is what the rule itself takes for it, from what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros import disk
from hmpc_ros.configuration import build_tracking, tracking_learner, tracking_rules
from hmpc_ros.configuration.files import Configuration, from_values, load
from hmpc_ros.configuration.provenance import made_by, provenance
from hmpc_ros.figures.style import BLUE, GREEN, MUTED, ORANGE
from hmpc_ros.figures.tracking_benchmark import draw_tracking_benchmark
from hmpc_ros.learning.black_box import BlackBoxRule, bayesian, cma_es
from hmpc_ros.learning.logarithms import LogarithmicRule, Logarithms
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.results import HEADER, iterations, number, read_records
from hmpc_ros.learning.summary import best_record
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.parameters import BLOCKS, SPACE
from hmpc_ros.policy.tracking.student import for_people
from hmpc_ros.share import config_dir
from hmpc_ros.studies.run_pool import tell, work_off
from hmpc_ros.studies.se3 import Se3Flyer
from hmpc_ros.studies.statistics import or_none

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console

    from hmpc_ros.learning.results import Record
    from hmpc_ros.policy.tracking.student import Teacher

#: What stands for all cases of this benchmark.
ALL = 'tracking'
# Learning flights after which the table tells errors.
MARKS = (0, 1, 5, 20, 99)
OUTCOME = 'heldout.json'
REGION = 3.0  # m from the reference, beyond which a flight is cut short

_HEAVY = {'simulator.mass_scale': 1.2}
_WIND = {'simulator.wind.kind': 'constant', 'simulator.wind.mean': [0.0, 3.0, 0.0]}
_DRYDEN = {'simulator.wind.kind': 'dryden', 'simulator.wind.intensity': [3.0, 3.0, 3.0]}
_BLIND = {'controller.tracking.thrust_observer': 0.0, 'controller.tracking.force_observer': 0.0}
_NOISY = {
    'simulator.position_noise_std': 0.01, 'simulator.velocity_noise_std': 0.02,
    'simulator.attitude_noise_std': float(np.deg2rad(0.5)), 'simulator.rates_noise_std': 0.05,
}  # fmt: skip


def _vehicle(name: str) -> dict[str, Any]:
    return {'simulator.preset': name}


#: By name: what it is in words, and in what it differs from ``config/tracking.yaml``.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    'heavy': ('Crazyflie, mass +20 %, no observer', _HEAVY | _BLIND),
    'heavy_observed': ('Crazyflie, mass +20 %', _HEAVY),
    'wind': ('Crazyflie, wind 3 m/s', _WIND),
    'gusts': ('Crazyflie, Dryden gusts of 3 m/s', _DRYDEN),
    'sih_heavy': ('PX4 SIH, mass +20 %', _vehicle('px4_sih') | _HEAVY),
    'sih_drag': (
        'PX4 SIH, mass +20 %, drag × 3',
        _vehicle('px4_sih') | _HEAVY | {'simulator.drag_scale': 3.0},
    ),
    'hummingbird': (
        'Hummingbird, mass +20 %, wind 3 m/s', _vehicle('hummingbird') | _HEAVY | _WIND
    ),
    'brushless': (
        'Crazyflie brushless, thrust -10 %, delay 20 ms',
        _vehicle('crazyflie_brushless')
        | {'simulator.thrust_scale': 0.9, 'simulator.delay': 0.02},
    ),
    'noisy': ('Crazyflie, mass +20 %, noisy sensors', _HEAVY | _NOISY),
}  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """Who competes.

    Attributes:
        label: For tables and figures.
        colour: In figures.
        overrides: Of the configuration.
        optimiser: Instead of the configured rule: one of `black_box`.
        flies_mpc: Whether it is the tracking MPC that it tunes; else RotorPy's controller.
    """

    label: str
    colour: str
    overrides: Mapping[str, Any]
    optimiser: Any = None
    flies_mpc: bool = True


def _rule(name: str, **more: Any) -> dict[str, Any]:
    return {'learner.rule': name, **{f'learner.{key}': value for key, value in more.items()}}


RULES: dict[str, Contestant] = {
    'trust_region': Contestant('default rule', GREEN, _rule('trust_region')),
    'adam': Contestant('Adam', '#E69F00', _rule('adam', estimator='model_based')),
    'paper': Contestant('paper, hybrid', BLUE, _rule('paper', estimator='hybrid')),
    'model_free': Contestant(
        'paper, model-free', '#56B4E9', _rule('paper', estimator='zeroth_order')
    ),
    'cma': Contestant('CMA-ES', '#7A3E9D', {}, cma_es),
    'bayesian': Contestant('Bayesian', MUTED, {}, bayesian),
    'se3': Contestant('RotorPy SE3, CMA-ES', ORANGE, {}, cma_es, flies_mpc=False),
}


def rules_named(names: Sequence[str]) -> list[str]:
    """Return rules in the order of `RULES`; none: all.

    Raises:
        ValueError: there is no such rule.
    """
    for name in names:
        if name not in RULES:
            raise ValueError(
                f"there is no rule '{name}' for the tracking MPC; rules are {', '.join(RULES)}"
            )
    return [name for name in RULES if name in names or not names]


def is_tracking(name: str) -> bool:
    """Whether a case is one of these: by name, or a file whose policy.kind is tracking."""
    if name == ALL or name in CASES:
        return True
    path = Path(name)
    return path.is_file() and load(path)['controller']['policy.kind'] == 'tracking'


@dataclass(frozen=True)
class Case:
    """A vehicle, a path and a truth that the MPC does not know."""

    name: str
    title: str
    configuration: Configuration


def cases_named(names: Sequence[str]) -> list[Case]:
    """Return cases by name or file.

    Raises:
        ValueError: a value in a file is refused.
    """
    base = load(config_dir() / 'tracking.yaml')
    found: dict[str, Case] = {}
    for name in names:
        if name == ALL or name in CASES:
            for each in CASES if name == ALL else (name,):
                title, overrides = CASES[each]
                nodes = from_values(base.nodes, _written(overrides)).nodes
                found[each] = Case(each, title, Configuration(nodes, base.path))
        else:
            path = Path(name)
            found[path.stem] = Case(path.stem, path.stem, load(path))
    return list(found.values())


def _written(overrides: Mapping[str, Any]) -> list[str]:
    return [f'{name}={json.dumps(value)}' for name, value in overrides.items()]


# -- the runs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A rule on a case with a seed: what a worker is given."""

    case: str
    rule: str
    seed: int
    folder: Path
    nodes: dict[str, dict[str, Any]]
    flights: int

    @property
    def name(self) -> str:
        """For people."""
        return f'{self.case} {self.rule} seed {self.seed}'

    @property
    def configuration(self) -> Configuration:
        """What it flies."""
        return Configuration(self.nodes)

    def records(self) -> list[Record]:
        """Return what was flown so far, at most as many flights as are asked for."""
        if not (self.folder / HEADER).exists():
            return []
        _, records = read_records(self.folder)
        return [r for r in iterations(records) if r['flights'] <= self.flights]

    def outcome(self) -> dict[str, Any] | None:
        """Return what was flown beside the run, as `fly` keeps it; None if it was not yet."""
        try:
            kept = json.loads((self.folder / OUTCOME).read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        return kept if kept['flights'] == self.flights else None

    def heldout(self) -> dict[str, Any] | None:
        """Return how held-out paths were flown before and after; None if they were not yet."""
        kept = self.outcome()
        return kept['paths'] if kept else None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fly."""
        return self.outcome() is not None


def entries_of(
    cases: Sequence[Case], rules: Sequence[str], seeds: Sequence[int], flights: int, out: Path
) -> list[Entry]:
    """Say who competes: every rule on every case with every seed, seed by seed."""
    found = []
    for seed in seeds:
        for case in cases:
            for rule in rules:
                overrides = {
                    **RULES[rule].overrides, 'simulator.seed': seed, 'learner.seed': seed,
                    'learner.flights': flights, 'learner.iterations': flights,
                    'learner.envelope.position': REGION,
                }  # fmt: skip
                nodes = from_values(case.configuration.nodes, _written(overrides)).nodes
                folder = out / case.name / rule / f'seed-{seed:03d}'
                found.append(Entry(case.name, rule, seed, folder, nodes, flights))
    return found


def fly_all(entries: Sequence[Entry], jobs: int, console: Console) -> bool:
    """Fly what is missing on a pool of processes; return whether all could be flown."""
    missing = [entry for entry in entries if not entry.finished]
    if not missing:
        return True
    whole = True

    def tell_of(entry: Entry, future: Future[str]) -> None:
        nonlocal whole
        if (error := future.exception()) is not None:
            whole = False
            console.print(f'[red]{entry.name} could not be flown:[/] {error}')
        elif stopped := future.result():
            console.print(f'{entry.name} ended: {stopped}')

    flights = missing[0].flights
    done = {e.name: (r[-1]['flights'] if (r := e.records()) else 0) for e in missing}
    done |= {entry.name: flights for entry in entries if entry not in missing}
    work_off(
        missing, fly, tell_of, jobs=jobs, steps=flights, unit='flights', done=done,
        console=console,
    )  # fmt: skip
    return whole


def fly(entry: Entry) -> str:
    """Start a run or go on with it; return why it diverged, empty when it did not."""
    configuration, contestant = entry.configuration, RULES[entry.rule]
    known = tracking_learner.teacher(configuration)
    start = Parameters(SPACE, known.start.theta)
    flyer: Any = tracking_learner.flyer(configuration, known)
    if not contestant.flies_mpc:
        s = configuration['simulator']
        flyer = Se3Flyer(
            build_tracking.assumed(configuration), build_tracking.conditions(s), known.reference,
            tracking_learner.steps_to(known.end, known.time_step), known.time_step, s['seed'],
        )  # fmt: skip
        start = flyer.start()
    rule = None
    if contestant.optimiser is not None:
        seen = tracking_rules.logarithms(start) if contestant.flies_mpc else Logarithms(
            start, np.ones(start.space.size, dtype=bool), tracking_rules.REACH
        )  # fmt: skip
        rule = LogarithmicRule(BlackBoxRule(contestant.optimiser), seen)

    def told(_: Any, record: Record) -> None:
        rmse = number(record['rmse_m'])
        tell(entry.name, record['flights'], f'RMSE {1e3 * rmse:.1f} mm')

    run = tracking_learner.train(
        configuration, known, flyer, entry.folder, None, told, rule=rule, start=start
    )
    paths, blind = {}, None
    best = best_record(entry.records())
    if contestant.flies_mpc and best is not None:
        after = start.with_theta(np.array(best['theta']))
        paths = tracking_learner.heldout(configuration, start, after)
        blind = _without_observer(flyer, known, start)
    kept = {
        'flights': entry.flights, 'paths': paths, 'no_observer_m': blind, 'stopped': run.stopped,
    }  # fmt: skip
    disk.write(entry.folder / OUTCOME, json.dumps(kept) + '\n')
    return run.stopped


def _without_observer(flyer: Any, known: Teacher, start: Parameters) -> float | None:
    """Return the RMSE [m] of the first flight had it no observer; None if it does not fly."""
    theta = start.theta.copy()
    for gain in ('thrust_observer', 'force_observer'):
        theta[BLOCKS[gain]] = 0.0
    flight = flyer(FlightRequest(start.with_theta(theta), NOMINAL))
    whole = flight.complete and not flight.failures
    return for_people(flight, known.begin, known.end)['rmse_m'] if whole else None


# -- what came of it -------------------------------------------------------------------------------


def curve(records: Sequence[Record]) -> list[float | None]:
    """Return the RMSE [m] of the best so far after each flight; None where there is none."""
    found: list[float | None] = [None] * (records[-1]['flights'] if records else 0)
    for i, record in enumerate(records, start=1):
        best = best_record(list(records[:i]))
        first = record['flights'] - 1
        found[first:] = [None if best is None else best['rmse_m']] * (len(found) - first)
    # Flights that an iteration needs besides its nominal one come after it.
    if records and found[0] is None:
        known = next(i for i, value in enumerate(found) if value is not None)
        found[:known] = [records[0]['rmse_m']] * known
    return found


def summarise(
    cases: Sequence[Case], entries: Sequence[Entry], seeds: Sequence[int], flights: int
) -> dict[str, Any]:
    """Put what was flown so far into numbers: ``cases.NAME.rules.RULE.after.5.median_m`` ..."""
    found: dict[str, Any] = {}
    for case in cases:
        of_rules = {}
        for rule in RULES:
            runs = [e for e in entries if (e.case, e.rule) == (case.name, rule) and e.records()]
            if runs:
                of_rules[rule] = _numbers(runs)
        if of_rules:
            found[case.name] = {'title': case.title, 'rules': of_rules}
    return {
        'kind': ALL,
        'flights': flights,
        'seeds': list(seeds),
        'labels': {name: rule.label for name, rule in RULES.items()},
        'cases': found,
        **provenance(),
    }


def _numbers(runs: Sequence[Entry]) -> dict[str, Any]:
    curves = {entry.seed: curve(entry.records()) for entry in runs}
    heldout = {str(entry.seed): entry.heldout() for entry in runs}
    identified = {
        str(entry.seed): next(
            (r['identified'] for r in reversed(entry.records()) if 'identified' in r), None
        )
        for entry in runs
    }
    outcomes = [kept for entry in runs if (kept := entry.outcome()) and kept['paths']]
    return {
        'no_observer': _spread([k.get('no_observer_m') for k in outcomes]) if outcomes else None,
        'after': {
            str(mark): _spread([c[mark] for c in curves.values() if len(c) > mark])
            for mark in MARKS
            if any(len(c) > mark for c in curves.values())
        },
        'curves': {str(seed): c for seed, c in curves.items()},
        'finished': sum(entry.finished for entry in runs),
        'heldout': heldout,
        'identified': identified,
        'seconds_per_iteration': float(
            np.median([r['seconds'] for entry in runs for r in entry.records()])
        ),
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    numbers = [number(value) for value in values]
    median, worst = float(np.median(numbers)), max(numbers)
    return {
        'median_m': or_none(median),
        'best_m': or_none(min(numbers)),
        'worst_m': or_none(worst),
        'seeds': len(numbers),
    }


PAGE = """# Learning to track: one flight, and then

![RMSE over flights]({figure})

RMSE of the true position in mm along the figure-eight (its first 3 s not counted) of the best
flight so far, every flight counted: median over seeds, the worst in round brackets, how many seeds
in square ones. "After 5" means the sixth flight at the latest. A case that was not flown that far
has a dash. "Without observer" is the start's flight with both gains of the observer 0, flown beside
the run.

{table}
RotorPy's SE3 controller is given the true mass, the true state and rotor speeds 500 times a second,
and the same feed-forward; the others the tracking MPC with the vehicle's nominal numbers, which
they change. Adam, the paper's rules, CMA-ES (`cma`) and Bayesian optimisation
(`bayesian-optimization`) change the logarithms of the same numbers as the default rule does.
Bayesian optimisation by that package because it is kept (a release of 2026, where scikit-optimize
has had none since 2024) and needs scikit-learn alone.
"""
HELD = """
Paths that nothing was learned on, RMSE in mm under the first and the best weights, medians:

"""


def table(summary: Mapping[str, Any]) -> str:
    """Write RMSE in mm in Markdown: median (worst) of so many seeds after so many flights."""
    lines = ['| case | rule | without observer | ' + ' | '.join(map(_column, MARKS)) + ' |',
             '|---|---|---|' + '---|' * len(MARKS)]  # fmt: skip
    for case in summary['cases'].values():
        for rule, numbers in case['rules'].items():
            cells = [_cell(numbers['no_observer'])]
            cells += [_cell(numbers['after'].get(str(mark))) for mark in MARKS]
            label = summary['labels'][rule]
            lines.append(f'| {case["title"]} | {label} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _column(mark: int) -> str:
    return 'first flight' if not mark else f'after {mark}'


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return '—'
    if found['median_m'] is None:
        return 'does not fly'
    median, worst = (
        'does not fly' if each is None else f'{1e3 * each:.3g}'
        for each in (found['median_m'], found['worst_m'])
    )
    spread = f' ({worst})' if found['seeds'] > 1 else ''
    return f'{median}{spread} [{found["seeds"]}]'


def heldout_table(summary: Mapping[str, Any]) -> str:
    """Write how held-out paths were flown under the first and the best weights, medians in mm."""
    lines = []
    for case in summary['cases'].values():
        for rule, numbers in case['rules'].items():
            runs = [paths for paths in numbers['heldout'].values() if paths]
            for path in runs[0] if runs else ():
                before, after = (
                    float(np.median([number(run[path][key]) for run in runs]))
                    for key in ('before_m', 'after_m')
                )
                label = summary['labels'][rule]
                lines.append(
                    f'| {case["title"]} | {label} | {path.replace("_", " ")} | '
                    f'{1e3 * before:.3g} | {1e3 * after:.3g} | {before / after:.1f} [{len(runs)}] |'
                )
    head = ['| case | rule | path | before | after | times less |', '|---|---|---|---|---|---|']
    return '\n'.join([*head, *lines]) + '\n' if lines else ''


def write_page(summary: Mapping[str, Any], path: Path) -> list[Path]:
    """Write the page of results, and its figure beside it."""
    figure = draw_tracking_benchmark(path.with_suffix('.png'), summary, RULES)
    held = heldout_table(summary)
    text = PAGE.format(figure=figure.name, table=table(summary)) + (HELD + held if held else '')
    text += '\n' + made_by(summary)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return [path, figure]


def write(summary: Mapping[str, Any], out: Path, page: Path | None = None) -> list[Path]:
    """Write summary and page into the results folder, and the page where else it is wanted."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / 'summary.json'
    path.write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    written = [path, *write_page(summary, out / 'tracking.md')]
    return [*written, *write_page(summary, page)] if page else written
