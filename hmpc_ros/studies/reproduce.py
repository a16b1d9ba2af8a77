"""The paper's experiment: all arms over several seeds, figures and table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from hmpc_ros.configuration import build
from hmpc_ros.configuration.files import from_values
from hmpc_ros.configuration.learner import offline_training, train_offline
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.figures import learning as figures
from hmpc_ros.figures.style import BLUE, GREEN, ORANGE, PURPLE
from hmpc_ros.learning.requests import CLOSING, FlightRequest
from hmpc_ros.learning.results import HEADER, ResultsError, number, read_header, read_records
from hmpc_ros.policy.linear.identification import FlightPlan
from hmpc_ros.studies.identification import identify_by_flying, statistics
from hmpc_ros.studies.run_pool import tell, work_off
from hmpc_ros.studies.statistics import or_none

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.training import TrainingRun
    from hmpc_ros.policy.flight import Flight

# Final tracking costs C that the paper reports.
PAPER = {'perfect': 1103.04, 'hybrid': 1111.71}

# Initial attitudes and rates of the identification flights, beyond what is linear: the model that
# comes of it makes the model-only arm unstable.
FAR: dict[str, Any] = {'attitude': 0.6, 'rates': 0.4}


@dataclass(frozen=True)
class Arm:
    """One way to learn."""

    label: str  #: for tables and figures
    colour: str  #: in figures
    overrides: Mapping[str, Any]  #: of the learner's parameters
    model: str = 'near'  #: which identified model the MPC uses, ``near`` or ``far`` from hover
    random: bool = True  #: whether the seed matters; otherwise one run stands for all


def _hybrid(gamma: float) -> dict[str, Any]:
    return {'estimator': 'hybrid', 'trust.initial': 1.0, 'trust.exponent': gamma}


_MODEL_ONLY = {'estimator': 'model_based', 'jacobians': 'model'}
_MODEL_FREE = {'estimator': 'zeroth_order'}
_PERFECT = {'estimator': 'model_based', 'jacobians': 'vehicle'}

ARMS: dict[str, Arm] = {
    'perfect': Arm('perfect model', '#222222', _PERFECT, random=False),
    'model_only': Arm('model only', ORANGE, _MODEL_ONLY, random=False),
    'model_free': Arm('model-free only', PURPLE, _MODEL_FREE),
    'hybrid_025': Arm('hybrid γ = 0.25', '#56B4E9', _hybrid(0.25)),
    'hybrid_050': Arm('hybrid γ = 0.5', BLUE, _hybrid(0.5)),
    'hybrid_075': Arm('hybrid γ = 0.75', GREEN, _hybrid(0.75)),
    'perfect_far': Arm('perfect model', '#222222', _PERFECT, 'far', random=False),
    'model_only_far': Arm('model only', ORANGE, _MODEL_ONLY, 'far', random=False),
    'model_free_far': Arm('model-free only', PURPLE, _MODEL_FREE, 'far'),
    'hybrid_050_far': Arm('hybrid γ = 0.5', BLUE, _hybrid(0.5), 'far'),
    'hybrid_075_far': Arm('hybrid γ = 0.75', GREEN, _hybrid(0.75), 'far'),
}
REFERENCE = {'near': 'perfect', 'far': 'perfect_far'}


def reproduce(
    configuration: Configuration,
    out: Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    seeds: int = 10,
    iterations: int = 200,
    jobs: int = 2,
    console: Console,
) -> str:
    """Run what is missing of the experiment, draw its figures, and return its table.

    Of each of the ``arms``, names of `ARMS`, there are as many ``seeds``, from 0; what is finished
    in the results folder, an absolute path, is kept.

    Raises:
        ValueError: the configuration contradicts itself.
        ResultsError: the folder is in use or damaged.
    """
    models = _identify(configuration, out, {ARMS[arm].model for arm in arms}, console)
    tasks = [
        Task(
            arm,
            seed,
            out / arm / f'seed-{seed:03d}',
            configuration.nodes,
            {
                'controller.model.source': 'file',
                'controller.model.file': str(models[ARMS[arm].model]),
                'learner.rule': 'paper',
                'learner.iterations': iterations,
                'learner.seed': seed,
                **{f'learner.{name}': value for name, value in ARMS[arm].overrides.items()},
            },
        )
        # Seed by seed, so that an interrupted experiment has all arms of the seeds it got to.
        for seed in range(seeds)
        for arm in arms
        if ARMS[arm].random or seed == 0
    ]
    _train_all(tasks, jobs, iterations, console)
    return draw_experiment(out)


# -- the models ------------------------------------------------------------------------------------


def _identify(
    configuration: Configuration, out: Path, wanted: set[str], console: Console
) -> dict[str, Path]:
    """Identify the models once; an experiment that goes on finds its own."""
    models = {}
    for name in sorted(wanted):
        models[name] = out / f'model_{name}.npz'
        if models[name].exists():
            continue
        out.mkdir(parents=True, exist_ok=True)
        plan = FlightPlan(**FAR) if name == 'far' else FlightPlan()
        console.print(f'identifying the model {name} hover from {plan.flights} flights')
        found = identify_by_flying(configuration, plan, seed=0)
        for warning in found.warnings:
            console.print(f'[yellow]warning:[/] {warning}')
        about = {**statistics(found), 'plan': asdict(plan), 'seed': 0, **provenance()}
        models[name].with_suffix('.json').write_text(
            json.dumps(about, indent=2) + '\n', encoding='utf-8'
        )
        found.model.save(models[name])
    return models


# -- the runs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One run: what a worker process is given."""

    arm: str
    seed: int
    folder: Path
    nodes: dict[str, dict[str, Any]]
    overrides: dict[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        return f'{self.arm} seed {self.seed}'

    def iterations_done(self) -> int:
        """Return how many iterations are kept already.

        Raises:
            ResultsError: what is kept is damaged.
        """
        if not (self.folder / HEADER).exists():
            return 0
        records = read_records(self.folder)[1]
        return sum(record['kind'] == 'iteration' for record in records)


def _train_all(tasks: list[Task], jobs: int, iterations: int, console: Console) -> None:
    """Fly all runs on a pool of processes, with one bar for all iterations."""

    def tell_of(task: Task, future: Future[str]) -> None:
        if stopped := future.result():
            console.print(f'{task.name} ended: {stopped}')

    done = {task.name: task.iterations_done() for task in tasks}
    work_off(
        tasks, _train, tell_of, jobs=jobs, steps=iterations, unit='iterations', done=done,
        console=console,
    )  # fmt: skip


def _train(task: Task) -> str:
    """Run one task in a worker; return why it diverged, empty when it did not."""
    overrides = [f'{name}={json.dumps(value)}' for name, value in task.overrides.items()]

    def report(run: TrainingRun, record: Record) -> None:
        C, V = number(record['C']), number(record['V'])
        tell(task.name, run.k, f'C {C:.2f}  V {V:.4f}')

    return train_offline(from_values(task.nodes, overrides), task.folder, on_record=report).stopped


# -- what came of it -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ArmResults:
    """All finished runs of an arm.

    Attributes:
        C, V, J: (seeds, iterations + 1); NaN after a run had ended.
    """

    arm: Arm  #: what it is
    seeds: list[int]  #: their seeds
    C: np.ndarray
    V: np.ndarray
    J: np.ndarray
    theta: np.ndarray  #: final weights of each seed, (seeds, 94)
    stopped: dict[int, str]  #: why runs ended early, by seed
    header: Record  #: of one of the runs


def read_experiment(out: Path) -> dict[str, ArmResults]:
    """Read the finished runs of an experiment's folder, by arm.

    Raises:
        ResultsError: there are none, or a file is damaged.
    """
    found = {}
    for name, arm in ARMS.items():
        folders = [f for f in sorted((out / name).glob('seed-*')) if (f / HEADER).exists()]
        runs = {int(folder.name[-3:]): read_records(folder) for folder in folders}
        finished = {seed: r for seed, (_, r) in runs.items() if _is_finished(r)}
        if not finished:
            continue
        length = max(len(records) for records in finished.values())
        curves = {
            key: np.array([_curve(records, key, length) for records in finished.values()])
            for key in 'CVJ'
        }
        found[name] = ArmResults(
            arm=arm,
            seeds=list(finished),
            theta=np.array([records[-1]['theta'] for records in finished.values()]),
            stopped={s: r[-1]['reason'] for s, r in finished.items() if r[-1].get('diverged')},
            header=read_header(folders[0]),
            **curves,
        )
    if not found:
        raise ResultsError(f'{out} holds no finished run of an experiment')
    return found


def _is_finished(records: list[Record]) -> bool:
    last = records[-1] if records else {}
    return last.get('kind') == 'closing' or bool(last.get('diverged'))


def _curve(records: list[Record], key: str, length: int) -> np.ndarray:
    """Return C, V or J over the iterations and the closing flight; the latest per iteration."""
    curve = np.full(length, np.nan)
    for record in records:
        curve[record['k']] = np.nan if record[key] is None else record[key]
    return curve


def summarise(results: Mapping[str, ArmResults]) -> dict[str, Any]:
    """Put the experiment into the numbers of its table."""
    arms = {}
    for name, found in results.items():
        final = {key: _final(getattr(found, key)) for key in 'CVJ'}
        reference = results.get(REFERENCE[found.arm.model])
        entry: dict[str, Any] = {
            'label': found.arm.label,
            'model': found.arm.model,
            'seeds': found.seeds,
            'iterations': found.C.shape[1] - 1,
            'diverged': len(found.stopped),
            'deterministic': not found.arm.random,
        }
        for key, values in final.items():
            entry[key] = {
                'median': or_none(np.median(values)),
                'worst': or_none(np.max(values)),
                'per_seed': [or_none(value) for value in values],
            }
        if reference is not None:
            for key in ('C', 'J'):
                ours = float(np.median(_final(getattr(reference, key))))
                gap = 100 * (float(np.median(final[key])) / ours - 1)
                entry[f'gap_{key}_percent'] = or_none(gap)
        entry['iterations_to_half_the_gain'] = or_none(np.median(_half_way(found, reference)))
        arms[name] = entry
    return {'arms': arms, 'paper': PAPER, **provenance()}


def table(summary: Mapping[str, Any]) -> str:
    """Write the experiment's table in Markdown."""
    headings = (
        'arm', 'model', 'seeds', 'diverged', 'C median', 'C worst', 'gap in C', 'V median',
        'J median', 'J worst', 'iterations to half the gain',
    )  # fmt: skip
    lines = [f'| {" | ".join(headings)} |', f'|{"---|" * len(headings)}']
    for entry in summary['arms'].values():
        cells = [
            entry['label'],
            f'{entry["model"]} hover',
            '1 (no randomness)' if entry['deterministic'] else str(len(entry['seeds'])),
            str(entry['diverged'] or '—'),
            _cell(entry['C']['median'], '.2f'),
            _cell(entry['C']['worst'], '.2f'),
            _cell(entry.get('gap_C_percent'), '+.2f', ' %'),
            _cell(entry['V']['median'], '.4f'),
            _cell(entry['J']['median'], '.2f'),
            _cell(entry['J']['worst'], '.2f'),
            _cell(entry['iterations_to_half_the_gain'], '.0f'),
        ]
        lines.append(f'| {" | ".join(cells)} |')
    paper = summary['paper']
    gap = 100 * (paper['hybrid'] / paper['perfect'] - 1)
    blanks = ' | — | — | — | — |'
    lines.append(f'| paper: perfect model | | | | {paper["perfect"]:.2f} | — | +0.00 %{blanks}')
    lines.append(f'| paper: hybrid | | | | {paper["hybrid"]:.2f} | — | {gap:+.2f} %{blanks}')
    return '\n'.join(lines) + '\n'


def _final(values: np.ndarray) -> np.ndarray:
    """Return the last value of each seed, infinite where the run had ended before."""
    return np.where(np.isfinite(values[:, -1]), values[:, -1], np.inf)


def _half_way(found: ArmResults, reference: ArmResults | None) -> np.ndarray:
    """Return after how many iterations each seed has gained half of the reference's gain in J.

    Counted from the last iteration that was above, so that a lucky moment is no arrival.
    """
    compared = found if reference is None else reference
    start, end = compared.J[0, 0], np.median(_final(compared.J))
    above = np.where(np.isfinite(found.J), found.J, np.inf) > 0.5 * (start + end)
    arrivals = [np.flatnonzero(row)[-1] + 1.0 if row.any() else 0.0 for row in above]
    return np.array([a if a < found.J.shape[1] else np.inf for a in arrivals])


def _cell(value: float | None, form: str, unit: str = '') -> str:
    return '—' if value is None else format(value, form) + unit


# -- its figures ----------------------------------------------------------------------------------


def draw_experiment(out: Path) -> str:
    """Draw the figures of an experiment, write its table, and return the table.

    Raises:
        ResultsError: there are no finished runs, or a file is damaged.
    """
    results = read_experiment(out)
    summary = summarise(results)
    text = table(summary)
    (out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    (out / 'table.md').write_text(text, encoding='utf-8')
    written = [out / 'summary.json', out / 'table.md']
    for model in ('near', 'far'):
        arms = {name: found for name, found in results.items() if found.arm.model == model}
        if arms:
            written.append(_draw_figure_1(out, model, arms))
    pair = ('hybrid_050', 'perfect')
    if all(name in results for name in pair):
        written.append(_draw_figure_2(out, results['hybrid_050'], results['perfect']))
    return text + '\n' + '\n'.join(str(path) for path in written)


def _draw_figure_1(out: Path, model: str, arms: dict[str, ArmResults]) -> Path:
    seeds = max(len(found.seeds) for found in arms.values())
    curves = [
        figures.Curves(
            found.arm.label, found.arm.colour, found.C, found.V, found.arm.label == 'perfect model'
        )
        for found in arms.values()
    ]
    how = {'near': 'near hover', 'far': 'too far from hover'}[model]
    return figures.draw_learning(
        out / ('figure_1.png' if model == 'near' else 'figure_1_far.png'),
        curves,
        title=f'Learning with a model identified {how}',
        subtitle=f'median and quartiles of {seeds} seeds; a cross ends a run that became unstable',
        references={'paper, perfect model': PAPER['perfect'], 'paper, hybrid': PAPER['hybrid']}
        if model == 'near'
        else {},
    )


def _draw_figure_2(out: Path, hybrid: ArmResults, perfect: ArmResults) -> Path:
    final = hybrid.J[:, -1]
    middle = int(np.argsort(final)[(len(final) - 1) // 2])  # the run at the median
    flights = {
        'before learning': _fly_again(hybrid, np.array(hybrid.header['theta'])),
        'hybrid γ = 0.5': _fly_again(hybrid, hybrid.theta[middle]),
        'perfect model': _fly_again(perfect, perfect.theta[0]),
    }
    configuration = from_values(hybrid.header['configuration'])
    controller = configuration['controller']
    return figures.draw_comparison(
        out / 'figure_2.png',
        flights,
        ('#B8BEC8', BLUE, '#222222'),
        build.limits(controller),
        controller['time_step'],
        title='Flights before and after learning',
        subtitle=f'the hybrid run with the median objective (seed {hybrid.seeds[middle]}) '
        'and the perfect-model controller',
    )


def _fly_again(found: ArmResults, theta: np.ndarray) -> Flight:
    """Fly weights of a run once more, as the run's closing flight did."""
    training = offline_training(from_values(found.header['configuration']))
    return training.fly(FlightRequest(training.start.with_theta(theta), CLOSING, number=0))
