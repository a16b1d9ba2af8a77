"""``hmpc plot``: draw a training run or an experiment from its results folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.cli import experiment_figures as figures
from hmpc_ros.cli.figures import BLUE, GREEN, ORANGE
from hmpc_ros.configuration.files import from_values
from hmpc_ros.learning.results import HEADER, iterations, number, read_records

if TYPE_CHECKING:
    from hmpc_ros.cli.reproduce import ArmResults
    from hmpc_ros.learning.flight import Flight

DESCRIPTION = """\
Draw what a results folder holds.

The folder of a training run (hmpc train, hmpc learn): cost and violation over the iterations. The
folder of hmpc reproduce: the paper's two figures and the table, from all runs that are finished.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('folder', metavar='DIR', type=Path, help='results folder')


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print what was written."""
    folder: Path = arguments.folder
    if (folder / HEADER).exists():
        print(f'picture: {draw_training(folder)}')
    else:
        print(draw_experiment(folder))
    return 0


def draw_training(folder: Path) -> Path:
    """Draw one training run next to its results.

    Raises:
        ResultsError: the results are damaged.
        ValueError: there is no finished iteration yet.
    """
    header, records = read_records(folder)
    if not records:
        raise ValueError(f'{folder} holds no finished iteration yet')
    by_iteration = {record['k']: record for record in records}
    shown = [by_iteration[k] for k in sorted(by_iteration)]
    values = {key: np.array([number(record[key]) for record in shown]) for key in 'CVJ'}
    learner = header['configuration']['learner']
    start, end = shown[0], shown[-1]
    changes = None
    if any(record.get('predicted_change') is not None for record in shown):
        changes = (
            np.array([_or_nan(record.get('predicted_change')) for record in shown]),
            np.array([_or_nan(record.get('measured_change')) for record in shown]),
        )
    rule = learner['rule'] if learner['rule'] == 'few_flights' else learner['estimator']
    return figures.draw_run(
        folder / 'learning.png',
        np.array(sorted(by_iteration), dtype=float),
        {key: np.where(np.isfinite(v), v, np.nan) for key, v in values.items()},
        np.array([record.get('accepted', True) for record in shown]),
        title=(
            f'J from {number(start["J"]):.2f} to {number(end["J"]):.2f} in {end["flights"]} flights'
        ),
        subtitle=(
            f'{rule.replace("_", " ")}, seed {learner["seed"]}, '
            f'{len(iterations(records))} iterations'
        ),
        colours=(BLUE, ORANGE, GREEN),
        changes=changes,
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def draw_experiment(out: Path) -> str:
    """Draw the figures of an experiment, write its table, and return the table.

    Raises:
        ResultsError: there are no finished runs, or a file is damaged.
    """
    from hmpc_ros.cli import reproduce

    results = reproduce.read_experiment(out)
    summary = reproduce.summarise(results)
    table = reproduce.table(summary)
    (out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    (out / 'table.md').write_text(table, encoding='utf-8')
    written = [out / 'summary.json', out / 'table.md']
    for model in ('near', 'far'):
        arms = {name: found for name, found in results.items() if found.arm.model == model}
        if arms:
            written.append(_draw_figure_1(out, model, arms))
    pair = ('hybrid_050', 'perfect')
    if all(name in results for name in pair):
        written.append(_draw_figure_2(out, results['hybrid_050'], results['perfect']))
    return table + '\n' + '\n'.join(str(path) for path in written)


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
        references={'paper, perfect model': 1103.04, 'paper, hybrid': 1111.71}
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
    from hmpc_ros.configuration import build

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
    from hmpc_ros.configuration.learner import offline_training
    from hmpc_ros.learning.requests import CLOSING, FlightRequest

    training = offline_training(from_values(found.header['configuration']))
    return training.fly(FlightRequest(training.start.with_theta(theta), CLOSING, number=0))
