"""The benchmark of what learns to track."""

import json
from contextlib import ExitStack

import numpy as np
import pytest

from hmpc_ros.cli.main import main
from hmpc_ros.configuration import tracking_learner, tracking_rules
from hmpc_ros.configuration.files import load
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.parameters import SPACE
from hmpc_ros.share import config_dir
from hmpc_ros.studies import tracking_benchmark as study

SHORT = ['controller.reference.duration=4.2', 'simulator.mass_scale=1.2']


def _short(*more):
    return load(config_dir() / 'tracking.yaml', [*SHORT, *more])


def test_the_gradient_of_a_flight_says_which_way_its_cost_falls():
    configuration = _short('simulator.backend=model')
    known = tracking_learner.teacher(configuration)
    start = Parameters(SPACE, known.start.theta)
    fly = tracking_learner.flyer(configuration, known)
    seen = tracking_rules.logarithms(start)
    objective = tracking_learner.TrackingObjective(known)
    flight = fly(FlightRequest(start, NOMINAL, with_solutions=True))
    gradient = tracking_rules.TrackingGradient(known, seen)(flight, seen.of(start))
    step = 0.05 * gradient / np.linalg.norm(gradient)

    def cost(sign):
        moved = seen.of(start).with_theta(seen.of(start).theta + sign * step)
        return objective.cost(fly(FlightRequest(seen.back(moved), NOMINAL))).J

    slope = (cost(1) - cost(-1)) / 0.1
    # By a model that does not know the true mass, so not exactly.
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=0.3)


def _record(flights, J, rmse):
    return {'kind': 'iteration', 'flights': flights, 'J': J, 'rmse_m': rmse, 'accepted': True}


def test_a_curve_counts_probes_and_follows_what_was_measured_not_the_truth():
    records = [_record(2, 0.04, 0.2), _record(4, 0.01, 0.1), _record(6, 0.02, 0.05)]
    assert study.curve(records) == [0.2, 0.2, 0.2, 0.1, 0.1, 0.1]


def test_cases_of_both_mpcs_are_not_mixed(capsys):
    assert main(['benchmark', '--cases', 'tracking', 'a', '--flights', '1']) != 0
    assert 'flown by themselves' in capsys.readouterr().err


def test_every_case_of_the_table_makes_a_configuration():
    cases = study.cases_named(['tracking'])
    assert [case.name for case in cases] == list(study.CASES)
    for case in cases:
        tracking_learner.teacher(case.configuration)


def test_a_rule_that_needs_solutions_is_refused_over_ros_with_the_way_that_works(tmp_path):
    nodes = _short('learner.rule=adam').nodes
    with ExitStack() as nothing, pytest.raises(ValueError, match='hmpc train --config tracking'):
        tracking_learner.vehicle_training(nodes, tmp_path, nothing)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_runs_are_compared_kept_and_told_on_a_page(tmp_path):
    case = tmp_path / 'short.yaml'
    text = (config_dir() / 'tracking.yaml').read_text()
    case.write_text(text.replace('duration: 12.0', 'duration: 4.2'))
    out, page = tmp_path / 'out', tmp_path / 'page' / 'tracking.md'
    words = [
        'benchmark', '--cases', str(case), '--rules', 'adam', 'se3', '--seeds', '5', '--flights',
        '2', '--out', str(out), '--page', str(page),
    ]  # fmt: skip
    pytest.importorskip('cma')
    assert main(words) == 0
    summary = json.loads((out / 'summary.json').read_text())
    rules = summary['cases']['short']['rules']
    for numbers in rules.values():
        assert numbers['after']['0']['median_m'] == numbers['curves']['5'][0] > 0
        assert len(numbers['curves']['5']) == 2
    assert rules['adam']['no_observer']['median_m'] > rules['adam']['after']['0']['median_m']
    assert rules['se3']['no_observer'] is None
    assert set(rules['adam']['heldout']['5']) == set(tracking_learner.HELDOUT)
    assert summary['commit'] in page.read_text()
    assert page.with_suffix('.png').stat().st_size > 10_000
    log = (out / 'short' / 'adam' / 'seed-005' / 'iterations.jsonl').read_bytes()
    assert main(words) == 0  # nothing is flown twice
    assert (out / 'short' / 'adam' / 'seed-005' / 'iterations.jsonl').read_bytes() == log
