"""hmpc train with the tracking MPC: short flights of a vehicle that is heavier than believed."""

import json

import numpy as np
import pytest

from hmpc_ros.cli.main import main
from hmpc_ros.configuration import files, tracking_learner
from hmpc_ros.learning.requests import Evaluation
from hmpc_ros.learning.results import read_records
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.parameters import SPACE
from hmpc_ros.share import config_dir

EIGHT = [
    '--config', 'tracking',
    '--set', 'simulator.backend=model',
    '--set', 'simulator.preset=reference',
    '--set', 'simulator.mass_scale=1.2',
    '--set', 'controller.reference.duration=5.0',
    '--set', 'controller.reference.ramp=1.5',
    '--set', 'controller.tracking.rmse_after=2.0',
]  # fmt: skip


def iterations(folder):
    return [
        {k: v for k, v in record.items() if k not in ('seconds', 'time', 'crc32', 'memory_crc32')}
        for record in read_records(folder)[1]
        if record['kind'] == 'iteration'
    ]


def test_two_flights_and_the_errors_are_a_third_and_the_mass_is_known(tmp_path, capsys):
    out, summary = tmp_path / 'run', tmp_path / 'summary.json'
    arguments = ['train', *EIGHT, '--flights', '2', '--seed', '3', '--out', str(out)]
    assert main([*arguments, '--json', str(summary)]) == 0
    told = json.loads(summary.read_text())
    assert told['best']['rmse_m'] < told['start']['rmse_m'] / 3
    assert told['final'] == {**told['best'], 'k': 2}
    assert [each['flights'] for each in told['per_iteration']] == [1, 2]
    for each in (told['start'], told['best'], told['final'], *told['per_iteration']):
        assert 0 < each['rmse_m'] < each['max_m'] < 0.5
    thrust = told['identified']['thrust_gain']
    assert thrust['told']
    assert thrust['estimate'] == pytest.approx(1 / 1.2, abs=0.005)
    assert 0 < thrust['standard_error'] < 0.01
    assert 'RMSE' in capsys.readouterr().err


def test_a_run_that_goes_on_has_the_numbers_of_one_that_was_not_stopped(tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    few = [*EIGHT, '--set', 'simulator.velocity_noise_std=0.01']
    assert main(['train', *few, '--iterations', '2', '--out', str(whole)]) == 0
    assert main(['train', *few, '--iterations', '1', '--out', str(parts)]) == 0
    assert main(['train', '--resume', '--iterations', '2', '--out', str(parts)]) == 0
    assert iterations(parts) == iterations(whole)
    assert np.isfinite(iterations(whole)[1]['J'])


def test_where_sensors_are_noisy_the_start_flies_twice_to_tell_how_much_costs_scatter():
    configuration = files.load(
        config_dir() / 'tracking.yaml', [*EIGHT[3::2], 'simulator.position_noise_std=0.01']
    )
    known = tracking_learner.teacher(configuration)
    start = Parameters(SPACE, known.start.theta)
    rule = tracking_learner.default_rule(configuration['learner'], known, start, None)
    asking = rule.iterate(0, start, {}, np.random.default_rng(0))
    (request,) = next(asking)
    flight = tracking_learner.flyer(configuration, known)(request)
    outcome = tracking_learner.TrackingObjective(known).cost(flight)
    (again,) = asking.send([Evaluation(request, flight, outcome)])
    assert np.array_equal(again.theta, request.theta)


@pytest.mark.parametrize('rule', ['adam', 'paper'])
def test_a_rule_that_knows_no_vehicle_learns_by_the_hybrid_gradient(rule, tmp_path):
    arguments = ['train', *EIGHT, '--iterations', '2', '--out', str(tmp_path)]
    settings = ['--set', f'learner.rule={rule}', '--set', 'learner.estimator=hybrid']
    assert main([*arguments, *settings]) == 0
    header, records = read_records(tmp_path)
    assert all(record['norm_model'] > 0 for record in iterations(tmp_path))
    assert not any(record['notes'] for record in iterations(tmp_path))
    assert not np.array_equal(records[-1]['theta'], header['theta'])


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        ('controller.reference.kind=topic', 'topic'),
        ('controller.tracking.rmse_after=4.9', 'rmse_after'),
    ],
)
def test_what_cannot_be_learned_is_said(value, said, tmp_path, capsys):
    arguments = ['train', *EIGHT, '--set', value, '--out', str(tmp_path / 'run')]
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_flights_identify_the_vehicle_and_a_controller_flies_with_what_they_tell(tmp_path):
    flight, found = tmp_path / 'flight', tmp_path / 'found.yaml'
    fly = ['fly', *EIGHT, '--offline', '--steps', '500']
    assert main([*fly, '--out', str(flight)]) == 0
    summary = tmp_path / 'found.json'
    files = [str(flight / 'flight.npz')]
    words = ['identify', '--config', 'tracking', '--set', 'simulator.preset=reference']
    assert main([*words, *files, '--out', str(found), '--json', str(summary)]) == 0
    thrust = json.loads(summary.read_text())['identified']['thrust_gain']
    assert abs(thrust['estimate'] - 1 / 1.2) < 3 * thrust['standard_error'] < 0.02
    again = tmp_path / 'again'
    assert main([*fly, '--set', f'controller.weights_file={found}', '--out', str(again)]) == 0
    before, after = (
        json.loads((folder / 'flight.json').read_text())['tracking.rmse_m']
        for folder in (flight, again)
    )
    assert after < before / 3
    (tmp_path / 'nothing').mkdir()
    assert main([*words, str(tmp_path / 'nothing'), '--out', str(found)]) == 1
