"""Every rule on every case of model mismatch over several seeds; summary, table and figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from hmpc_ros import disk
from hmpc_ros.configuration import build
from hmpc_ros.configuration.files import Configuration, from_values, load
from hmpc_ros.configuration.learner import SEVERAL_TASKS, OfflineTraining, header, offline_training
from hmpc_ros.configuration.provenance import made_by, provenance
from hmpc_ros.configuration.tables import LEARNING
from hmpc_ros.figures.benchmark import draw_benchmark
from hmpc_ros.figures.style import GREEN, MUTED
from hmpc_ros.learning.requests import CLOSING, FlightRequest
from hmpc_ros.learning.results import number, recorded
from hmpc_ros.learning.summary import best_record
from hmpc_ros.learning.training import open_run
from hmpc_ros.plant.kinds import ROTORS
from hmpc_ros.share import config_dir
from hmpc_ros.studies.reproduce import ARMS
from hmpc_ros.studies.run_pool import tell, work_off
from hmpc_ros.studies.statistics import or_none

if TYPE_CHECKING:
    from hmpc_ros.learning.results import Record

HELD_OUT = 'heldout'
OUTCOME = 'outcome.json'
# Flights at which the summary tells J as well.
MARKS = (10, 20, 50)


@dataclass(frozen=True)
class Contestant:
    """A rule as the benchmark runs it."""

    label: str  #: for tables and figures
    colour: str  #: in figures
    overrides: Mapping[str, Any]  #: of the learner's parameters
    random: bool = True  #: whether the seed matters to the rule itself
    #: whether it uses the vehicle's true Jacobians, which nobody has: a yardstick
    knows_vehicle: bool = False


def _paper(arm: str, label: str, **more: Any) -> Contestant:
    return Contestant(label, ARMS[arm].colour, {'rule': 'paper', **ARMS[arm].overrides}, **more)


def _adam(label: str, colour: str, jacobians: str, **more: Any) -> Contestant:
    # Adam's steps do not shrink: without a way back it may run away.
    guarded = {'rollback.enabled': True, 'rollback.margin': 0.3}
    overrides = {'rule': 'adam', 'estimator': 'model_based', 'jacobians': jacobians, **guarded}
    return Contestant(label, colour, overrides, random=False, **more)


RULES: dict[str, Contestant] = {
    'perfect': _paper('perfect', 'paper, true Jacobians', random=False, knows_vehicle=True),
    'adam_perfect': _adam('Adam, true Jacobians', MUTED, 'vehicle', knows_vehicle=True),
    'model_only': _paper('model_only', 'paper, model only', random=False),
    'model_free': _paper('model_free', 'paper, model-free only'),
    'hybrid_050': _paper('hybrid_050', 'paper, hybrid γ = 0.5'),
    'adam': _adam('Adam, model only', '#E69F00', 'model'),
    'trust_region': Contestant('trust region (default)', GREEN, {'rule': 'trust_region'}),
}


# -- what is asked for -----------------------------------------------------------------------------


def rules_named(names: Sequence[str]) -> list[str]:
    """Return rules in the order of `RULES`.

    Raises:
        ValueError: there is no such rule.
    """
    for name in names:
        if name not in RULES:
            raise ValueError(f"there is no rule '{name}'; rules are {', '.join(RULES)}")
    return [name for name in RULES if name in names]


def default_cases() -> list[str]:
    """Return the names of the shipped cases that are not held out."""
    return [name for name in _shipped_cases() if not name.startswith(HELD_OUT)]


def _shipped_cases() -> dict[str, Path]:
    return {path.stem: path for path in sorted((config_dir() / 'cases').glob('*.yaml'))}


def cases_named(names: Sequence[str]) -> list[Case]:
    """Read cases by their names or files; none: all that are not held out.

    Raises:
        ValueError: there is no such case, or a value in it is refused.
    """
    shipped = _shipped_cases()
    found: dict[str, Path] = {}
    for name in names or default_cases():
        if name == HELD_OUT:
            found |= {n: path for n, path in shipped.items() if n.startswith(HELD_OUT)}
        elif name in shipped:
            found[name] = shipped[name]
        elif Path(name).is_file():
            path = Path(name).absolute()
            if found.setdefault(path.stem, path) != path:
                raise ValueError(f"two cases are named '{path.stem}': rename one of the files")
        else:
            raise ValueError(
                f"there is no case '{name}': give a parameter file, {HELD_OUT}, or one of "
                f'{", ".join(shipped)}'
            )
    return [read_case(path) for path in found.values()]


_STILL = [0.0] * ROTORS.nx
_NO_NOISE = {'process_noise_std': _STILL, 'measurement_noise_std': _STILL, 'gust_std': 0.0}


@dataclass(frozen=True)
class Case:
    """A vehicle, a task, and what the MPC believes of them."""

    name: str  #: of its file
    title: str  #: the first sentence of the comment that the file begins with; else the name
    configuration: Configuration  #: what the file says

    @property
    def noisy(self) -> bool:
        """Whether no two flights are the same."""
        simulator = self.configuration['simulator']
        return any(np.any(np.array(simulator[name]) != 0) for name in _NO_NOISE)

    @property
    def random(self) -> bool:
        """Whether the seed makes another case of it."""
        controller = self.configuration['controller']
        drawn = controller['model.error_std'] > 0 or controller['model.source'] == 'identified'
        return self.noisy or drawn

    def allows(self, rule: Contestant) -> bool:
        """Whether a rule makes sense here.

        Jacobians of the rigid body are not true behind a lag, and not every rule takes tasks.
        """
        simulator, learner = self.configuration['simulator'], self.configuration['learner']
        behind_a_lag = simulator['motor_time_constant'] > 0 or simulator['input_delay_steps'] > 0
        several = bool(learner['tasks.goals'] or learner['tasks.starts'])
        return not (
            (rule.knows_vehicle and behind_a_lag)
            or (several and rule.overrides['rule'] != SEVERAL_TASKS)
        )


def read_case(path: Path) -> Case:
    """Read a case from its parameter file.

    Raises:
        ValueError: the file is no parameter file, or a value is refused.
    """
    configuration = load(path)
    first = path.read_text(encoding='utf-8').partition('\n')[0]
    comment = first.removeprefix('#').strip().partition('. ')[0].rstrip('.')
    title = comment if first.startswith('#') and comment else path.stem
    return Case(path.stem, title, configuration)


# -- the runs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One run: what a worker process is given."""

    name: str  #: for people
    folder: Path  #: where its results are kept
    nodes: dict[str, dict[str, Any]]  #: values of all nodes' parameters
    noisy: bool  #: whether weights have to be flown without noise to know their J
    flights: int  #: how many to fly

    @property
    def identity(self) -> str:
        """Tell this run from one with other values of the parameters that decide its numbers."""
        kept = {name: self.nodes[name] for name in ('simulator', 'controller')}
        kept['learner'] = {name: self.nodes['learner'][name] for name in LEARNING}
        kept['learner'].pop('iterations')
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]

    def outcome(self) -> Record | None:
        """Return what came of the run, None when it is not finished."""
        try:
            kept = json.loads((self.folder / OUTCOME).read_text(encoding='utf-8'))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if kept['identity'] != self.identity or len(kept['curve']) < self.flights:
            return None
        return kept


@dataclass(frozen=True)
class Entry:
    """A rule on a case with a seed. Where nothing is random, all seeds share one run."""

    case: str
    rule: str
    seed: int
    task: Task

    @staticmethod
    def of(case: Case, rule: str, seed: int, flights: int, out: Path) -> Entry:
        """Say how it is run."""
        random = case.random or RULES[rule].random
        used = seed if random else 0
        values = {
            'simulator.seed': used,
            'controller.model.seed': used,
            'learner.seed': used,
            'learner.iterations': flights,
            **{f'learner.{name}': value for name, value in RULES[rule].overrides.items()},
        }
        overrides = [f'{name}={json.dumps(value)}' for name, value in values.items()]
        folder = out / case.name / rule / (f'seed-{seed:03d}' if random else 'all-seeds')
        nodes = from_values(case.configuration.nodes, overrides).nodes
        name = f'{case.name} {rule}' + (f' seed {seed}' if random else '')
        return Entry(case.name, rule, seed, Task(name, folder, nodes, case.noisy, flights))


def entries_of(
    cases: Sequence[Case], rules: Sequence[str], seeds: Sequence[int], flights: int, out: Path
) -> list[Entry]:
    """Say who competes: every rule on every case that allows it, with every seed."""
    return [
        Entry.of(case, rule, seed, flights, out)
        # Seed by seed, so that an interrupted benchmark has compared all rules on those it got to.
        for seed in seeds
        for case in cases
        for rule in rules
        if case.allows(RULES[rule])
    ]


def fly_all(entries: Sequence[Entry], jobs: int, console: Console) -> bool:
    """Fly what is missing on a pool of processes; return whether all could be flown."""
    tasks = list({entry.task.folder: entry.task for entry in entries}.values())
    missing = [task for task in tasks if task.outcome() is None]
    if not missing:
        return True
    whole = True

    def tell_of(task: Task, future: Future[str]) -> None:
        nonlocal whole
        if (error := future.exception()) is not None:
            whole = False
            console.print(f'[red]{task.name} could not be flown:[/] {error}')
        elif stopped := future.result():
            console.print(f'{task.name} ended: {stopped}')

    steps = missing[0].flights
    done = {task.name: steps for task in tasks if task not in missing}
    work_off(
        missing, _fly_as_worker, tell_of, jobs=jobs, steps=steps, unit='flights', done=done,
        console=console,
    )  # fmt: skip
    return whole


def _fly_as_worker(task: Task) -> str:
    return fly(task, lambda flights, J: tell(task.name, flights, f'J {J:.2f}'))


def fly(task: Task, on_record: Any = lambda _flights, _J: None) -> str:
    """Start a run or go on with it, and keep its outcome.

    ``on_record`` is called with the flights so far and the latest J.

    Returns:
        Why it diverged, empty when it did not.

    Raises:
        ValueError: the case contradicts itself.
        ResultsError: the folder is in use, damaged, or holds another run.
    """
    configuration = from_values(task.nodes)
    training = offline_training(configuration)
    # An iteration flies at least once: the flights are used up before the iterations.
    with open_run(
        task.folder, header(configuration, training), training.rule, training.objective,
        training.start, iterations=task.flights + 1,
    ) as run:  # fmt: skip
        results = run.results
        while not run.stopped and _flown(results.records) < task.flights:
            request = run.next_request()
            assert request is not None
            record = run.report(request, training.fly(request))
            if record is not None:
                on_record(record['flights'], number(record['J']))
        measured = _Measurement(task, configuration, training)
        known = curve(results.iterations, measured.of, task.flights)
        start = measured.of(results.iterations[0])
        best = best_record(_within(results.iterations, task.flights))
        seconds = sum(record['seconds'] for record in results.iterations)
    content = {
        'identity': task.identity,
        'start': or_none(start),
        'curve': [or_none(J) for J in known],
        'diverged': run.stopped,
        'theta': best['theta'] if best else None,
        'fixed': best.get('fixed') if best else None,
        'seconds': seconds,
    }
    disk.write(task.folder / OUTCOME, json.dumps(content) + '\n')
    return run.stopped


def _flown(records: Sequence[Record]) -> int:
    return records[-1]['flights'] if records else 0


def _within(records: Sequence[Record], flights: int) -> list[Record]:
    return [record for record in records if record['flights'] <= flights]


class _Measurement:
    """What weights cost without noise: as flown, or flown again by a vehicle that has none."""

    def __init__(self, task: Task, configuration: Configuration, training: OfflineTraining) -> None:
        self._noisy, self._training = task.noisy, training
        clean = build.vehicle({**configuration['simulator'], **_NO_NOISE})
        self._fly = replace(training.fly, rollout=replace(training.rollout, vehicle=clean))
        self._known: dict[int, float] = {}

    def of(self, record: Record) -> float:
        """Return J of the weights that an iteration flew as nominal, infinite if they do not."""
        if not self._noisy:
            return number(record['J'])
        if record['k'] not in self._known:
            self._known[record['k']] = self._flown(record)
        return self._known[record['k']]

    def _flown(self, record: Record) -> float:
        training = self._training
        policy = recorded(training.start, record)
        requests = [
            FlightRequest(policy, CLOSING, task=task)
            for task in range(getattr(training.rule, 'tasks', 1))
        ]
        return float(np.mean([training.objective.cost(self._fly(r)).J for r in requests]))


def curve(
    records: Sequence[Record], measured: Callable[[Record], float], flights: int
) -> np.ndarray:
    """Return J of the best weights known after each flight, (flights,).

    ``measured`` tells J of the weights of one of a run's iterations.
    """
    known = np.full(flights, measured(records[0]))
    for i, record in enumerate(_within(records, flights), start=1):
        best = best_record(list(records[:i]))
        if best is not None:
            known[record['flights'] - 1 :] = measured(best)
    return known


# -- what came of it -------------------------------------------------------------------------------


def summarise(
    cases: Iterable[Case], entries: Iterable[Entry], seeds: Sequence[int], flights: int
) -> dict[str, Any]:
    """Put the finished runs into numbers: ``cases.NAME.RULE.J.median`` and so on."""
    outcomes: dict[str, dict[str, dict[int, Record]]] = {}
    shared: dict[Path, Record | None] = {}
    for entry in entries:
        folder = entry.task.folder
        if folder not in shared:
            shared[folder] = entry.task.outcome()
        outcome = shared[folder]
        if outcome is not None:
            of_case = outcomes.setdefault(entry.case, {})
            of_case.setdefault(entry.rule, {})[entry.seed] = outcome
    found, starts, titles = {}, {}, {}
    for case in cases:
        if case.name not in outcomes:
            continue
        titles[case.name] = case.title
        of_rules = outcomes[case.name]
        # All rules start with the same weights; any that ran with a seed can tell its start.
        known = {seed: o['start'] for runs in of_rules.values() for seed, o in runs.items()}
        starts[case.name] = _spread({seed: number(J) for seed, J in sorted(known.items())})
        found[case.name] = {rule: _numbers(runs, flights) for rule, runs in of_rules.items()}
    return {
        'flights': flights,
        'seeds': list(seeds),
        'rules': {name: rule.label for name, rule in RULES.items()},
        'titles': titles,
        'starts': starts,
        'cases': found,
        **provenance(),
    }


def _numbers(runs: Mapping[int, Record], flights: int) -> dict[str, Any]:
    curves = {seed: [number(J) for J in o['curve'][:flights]] for seed, o in runs.items()}
    every = np.array(list(curves.values()))
    return {
        'J': _spread({seed: curve[-1] for seed, curve in curves.items()}),
        'after': {
            str(mark): _spread({seed: curve[mark - 1] for seed, curve in curves.items()})
            for mark in MARKS
            if mark < flights
        },
        'diverged': sum(bool(outcome['diverged']) for outcome in runs.values()),
        'curve': {
            'median': [or_none(J) for J in np.median(every, axis=0)],
            'worst': [or_none(J) for J in np.max(every, axis=0)],
        },
    }


def _spread(values: Mapping[int, float]) -> dict[str, Any]:
    """Return median, worst and all values by seed; null where J is infinite."""
    numbers = list(values.values())
    return {
        'median': or_none(np.median(numbers)),
        'worst': or_none(max(numbers)),
        'per_seed': {str(seed): or_none(value) for seed, value in values.items()},
    }


def table(summary: Mapping[str, Any]) -> str:
    """Write J in Markdown, median and worst seed; the best rule without secret knowledge bold."""
    shown = [name for name in RULES if any(name in rules for rules in summary['cases'].values())]
    labels = [RULES[name].label for name in shown]
    lines = [
        f'J after {summary["flights"]} flights, median (worst) of {len(summary["seeds"])} seeds:',
        '',
        f'| case | start | {" | ".join(labels)} |',
        f'|---|---|{"---|" * len(labels)}',
    ]
    for case, rules in summary['cases'].items():
        winner = best_rule(rules)
        cells = []
        for rule in shown:
            numbers = rules.get(rule, {}).get('J')
            cell = '—' if numbers is None else _cell(numbers)
            cells.append(f'**{cell}**' if rule == winner else cell)
        start = _number(summary['starts'][case]['median'])
        name = f'{case}: {summary["titles"][case]}'
        lines.append(f'| {name} | {start} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def best_rule(rules: Mapping[str, Any]) -> str | None:
    """Return the rule with the lowest median, of those that do not know the vehicle."""
    honest = {name: n for name, n in rules.items() if not RULES[name].knows_vehicle}
    return min(honest, key=lambda name: number(honest[name]['J']['median']), default=None)


def _cell(J: Mapping[str, Any]) -> str:
    median, worst = _number(J['median']), _number(J['worst'])
    return median if median == worst else f'{median} ({worst})'


def _number(J: float | None) -> str:
    return 'does not fly' if J is None else f'{J:.1f}' if J < 1e5 else f'{J:.0e}'


PAGE = """# {title}

![J over flights]({figure})

J = C + 300 V of the best weights that a rule has flown; every flight counts, probes and repetitions
too. Cases are the files of `config/cases`.

{table}
"""


def write(summary: Mapping[str, Any], out: Path, page: Path | None = None) -> list[Path]:
    """Write summary, table and figure into the results folder, a page where else it is wanted.

    Returns:
        The paths that were written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / 'summary.json', out / 'table.md']
    paths[0].write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    paths[1].write_text(table(summary), encoding='utf-8')
    winners = {case: best_rule(found) for case, found in summary['cases'].items()}
    paths.append(draw_benchmark(out / 'benchmark.png', summary, RULES, winners))
    if page is None:
        return paths
    page.parent.mkdir(parents=True, exist_ok=True)
    figure = draw_benchmark(page.with_suffix('.png'), summary, RULES, winners)
    flown = {name for found in summary['cases'].values() for name in found}
    title = ', '.join(RULES[name].label for name in RULES if name in flown)
    text = PAGE.format(title=title, figure=figure.name, table=table(summary)) + made_by(summary)
    page.write_text(text, encoding='utf-8')
    return [*paths, page, figure]
