"""hmpc study mismatch, tiny: two levels, few and short flights."""

import json

import numpy as np
import pytest
from rich.console import Console

from hmpc_ros.cli.main import main
from hmpc_ros.configuration.files import load
from hmpc_ros.configuration.learner import offline_training
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.share import config_dir
from hmpc_ros.studies import mismatch
from hmpc_ros.studies.mismatch_pieces import learn, measure, transient
from hmpc_ros.studies.mismatch_summary import answer, summarise

SHORT = ['learner.steps=8', 'controller.goal.position=[1.0, 0.0, 0.0]']
QUIET = Console(quiet=True)


def reference(*overrides):
    return load(config_dir() / 'reference.yaml', [*SHORT, *overrides])


def plan(**more):
    some = {'directions': ['lag'], 'rules': ['model_free', 'hybrid_050'], 'seeds': [0, 1]}
    return mismatch.Plan(reference(), levels=2, flights=3, **{**some, **more})


def numbers(lines):
    kept = [{k: v for k, v in line.items() if k != 'seconds'} for line in lines]
    return {line['identity']: line for line in kept}


def test_a_study_from_the_command_line_to_its_page(tmp_path, capsys):
    words = [
        'study', 'mismatch', '--directions', 'lag', '--levels', '2', '--seeds', '0', '--flights',
        '4', '--rules', 'model_free', 'hybrid_050', 'trust_region', '--jobs', '1',
        *(word for each in SHORT for word in ('--set', each)),
        '--out', str(tmp_path / 'out'), '--page', str(tmp_path / 'docs.md'),
    ]  # fmt: skip
    assert main(words) == 0
    out = tmp_path / 'out'
    lines = [json.loads(line) for line in (out / 'study.jsonl').read_text().splitlines()]
    assert [line['kind'] for line in lines].count('run') == 6
    measured = [line for line in lines if line['kind'] == 'level']
    assert [line['value'] for line in measured] == [0.0, 0.4]
    for line in measured:
        assert line['check'] < 1e-3  # the true gradient is that of central differences
        assert {each['delta'] for each in line['variance']} == {1e-4, 1e-3, 1e-2, 1e-1}
    # Without a lag the model is the vehicle's linearisation; with one it is not.
    right, wrong = (line['gradients'] for line in measured)
    assert right['bias'] / right['true'] < wrong['bias'] / wrong['true']
    assert measured[0]['error_B'] < 0.1 < measured[1]['error_B']

    page = (tmp_path / 'docs.md').read_text()
    assert '![The rules as the model gets worse](docs.png)' in page
    assert 'All 8 pieces' in page
    assert '| Motor lag | 0.4 s |' in page
    assert lines[0]['date'] in page
    assert (tmp_path / 'docs.png').read_bytes().startswith(b'\x89PNG')
    summary = json.loads((out / 'summary.json').read_text())
    assert [level['value'] for level in summary['levels']] == [0.0, 0.4]
    assert '| trust region (default) |' in capsys.readouterr().out

    before = (out / 'study.jsonl').read_bytes()
    assert main(words) == 0
    assert (out / 'study.jsonl').read_bytes() == before  # nothing was made again


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_same_study_along_a_path(tmp_path):
    words = [
        'study', 'mismatch', '--config', 'tracking', '--directions', 'path_mass', '--levels', '2',
        '--seeds', '0', '--flights', '3', '--rules', 'model_free', 'hybrid_050', '--jobs', '1',
        '--set', 'simulator.backend=model', '--set', 'controller.reference.duration=3.0',
        '--set', 'controller.reference.ramp=1.0', '--set', 'controller.tracking.rmse_after=1.0',
        '--out', str(tmp_path),
    ]  # fmt: skip
    assert main(words) == 0
    _, *lines = (json.loads(line) for line in (tmp_path / 'study.jsonl').open())
    assert [line['rule'] for line in lines] == ['', 'model_free', 'hybrid_050'] * 2
    for line in lines:
        if line['rule']:
            assert len(line['curve']) == 3
            assert line['curve'][-1] <= line['curve'][0]
            assert line['final']['J'] == line['curve'][-1]
        else:
            assert line['flies']
    # The model's gradient is the flights', and is less so for another vehicle.
    right, wrong = (line['differences'] for line in lines if not line['rule'])
    assert right['cosine'] > 0.9
    assert right['bias'] / right['true'] < wrong['bias'] / wrong['true']
    page = (tmp_path / 'study.md').read_text()
    assert 'flights along a path' in page
    assert '| RMSE [mm] |' in page
    assert '| Vehicle heavier than believed | 60 % |' in page


def test_a_study_that_was_killed_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    asked = plan(seeds=[0])
    whole, total = mismatch.run_study(asked, tmp_path / 'whole', jobs=1, console=QUIET)
    assert len(whole) == total == 6
    work, made = mismatch.work, []

    def interrupted(piece):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(piece.identity)
        return work(piece)

    monkeypatch.setattr(mismatch, 'work', interrupted)
    with pytest.raises(KeyboardInterrupt):
        mismatch.run_study(asked, tmp_path / 'part', jobs=1, console=QUIET)
    monkeypatch.setattr(mismatch, 'work', work)
    path = tmp_path / 'part' / mismatch.LINES
    with path.open('a') as stream:
        stream.write('{"kind": "run", "iden')  # killed while it wrote
    assert [line['identity'] for line in mismatch.lines_of(asked, path.parent)[0]] == made
    part, _ = mismatch.run_study(asked, path.parent, jobs=1, console=QUIET)
    assert numbers(part) == numbers(whole)
    assert len(mismatch.sessions(path.parent)) == 2


@pytest.mark.long
def test_processes_come_to_the_same_numbers(tmp_path):
    one, two = (
        mismatch.run_study(plan(), tmp_path / str(jobs), jobs=jobs, console=QUIET)[0]
        for jobs in (1, 2)
    )
    assert numbers(one) == numbers(two)


def test_a_model_of_which_no_mpc_can_be_made_does_not_end_the_study():
    nothing = reference('learner.box.p=0.1')  # the start weights are outside
    assert learn(nothing, 3)['curve'] == [None] * 3
    assert 'outside the box' in learn(nothing, 3)['diverged']
    assert not measure(nothing)['flies']


def test_a_damaged_line_is_refused(tmp_path):
    (tmp_path / mismatch.LINES).write_text('{"kind"\n')
    with pytest.raises(ValueError, match='damaged'):
        mismatch.run_study(plan(), tmp_path, jobs=1, console=QUIET)


def test_pieces_differ_by_what_decides_their_numbers_alone():
    pieces = plan().pieces()
    assert len({piece.identity for piece in pieces}) == len(pieces)
    again = {piece.identity for piece in plan(seeds=[0, 1, 2]).pieces()}
    assert {piece.identity for piece in pieces} <= again  # more seeds prolong a study
    longer = mismatch.Plan(
        reference('learner.steps=9'), ['lag'], ['model_free'], levels=2, seeds=[0], flights=3
    )
    assert not {piece.identity for piece in longer.pieces()} & again


@pytest.mark.parametrize('config', ['reference', 'tracking'])
def test_every_direction_is_another_vehicle_or_model(config):
    configuration = load(config_dir() / f'{config}.yaml')
    every = mismatch.Plan(configuration, rules=['adam'], levels=2, seeds=[0]).pieces()
    nominal, *others = (piece for piece in every if not piece.rule)
    known = mismatch.directions_of(configuration['controller']['policy.kind'])
    assert {piece.direction for piece in others} == set(known)
    for piece in others:
        same = [piece.nodes[node] == nominal.nodes[node] for node in ('simulator', 'controller')]
        assert not all(same), piece.name


def test_levels_are_nearer_to_each_other_where_models_are():
    assert mismatch.DIRECTIONS['delay'].values(8) == [0.0, 1.0, 2.0]
    assert mismatch.DIRECTIONS['mass'].values(3) == pytest.approx([0.0, 0.05, 0.2])


def test_levels_are_compared_seed_by_seed():
    def run(rule, seed, J, value=0.0, direction='nominal'):
        return {
            'kind': 'run', 'direction': direction, 'value': value, 'share': value / 0.4,
            'rule': rule, 'seed': seed, 'curve': [2.0, J], 'diverged': '', 'final': None,
            'gradients': [{'k': 0, 'step': 1.0, 'trust': 1.0, 'model': 1.0, 'true': 1.0,
                           'bias': 2.0, 'cosine': 1.0}],
        }  # fmt: skip

    lines = [
        run('model_free', 0, 1.5), run('hybrid_050', 0, 1.0),
        run('model_free', 1, 1.8), run('hybrid_050', 1, 1.2),
        run('model_free', 0, 1.0, 0.4, 'lag'), run('hybrid_050', 0, 2.0, 0.4, 'lag'),
        run('model_free', 1, 1.0, 0.4, 'lag'),  # its partner is missing: not compared
    ]  # fmt: skip
    found = summarise(plan(), lines)
    nominal, lag = found['levels']
    assert nominal['hybrid']['change'] == pytest.approx(np.median([3 / 3.5, 3.2 / 3.8]) - 1)
    assert nominal['hybrid']['foretold'] == pytest.approx(4 / 93)
    assert (nominal['seeds'], lag['seeds']) == (2, 1)
    assert lag['excess'] == {'model_free': 0.0, 'hybrid_050': 1.0}
    counts = answer(found)
    assert (counts['ahead'], counts['behind']) == (1, 1)
    assert (counts['foretold'], counts['agree']) == (2, 1)
    assert counts['stops'] == {'lag': 0.4}
    assert found['rules']['hybrid_050']['arrival']['median'] == pytest.approx(2.5)


def test_a_flight_in_numbers():
    x = np.zeros((5, 12))
    x[:, 0] = [-2.0, -1.0, 0.5, 0.05, 0.0]
    flight = Flight(x, np.zeros((4, 4)), Goal(), np.zeros(4))
    assert transient(flight, 0.1) == pytest.approx(
        {'settling': 0.3, 'iae': 0.355, 'ise': 0.52525, 'overshoot': 0.25}
    )


@pytest.mark.parametrize(
    'imperfection',
    ['simulator.motor_time_constant=0.1', 'simulator.input_delay_steps=1'],
)
def test_the_true_gradient_knows_motors_and_delays(imperfection):
    training = offline_training(reference(imperfection, 'learner.steps=30'))
    start, vehicle = training.start, training.rollout.vehicle
    flight = training.fly(FlightRequest(start, NOMINAL, with_solutions=True))
    true = FlightGradient(training.rollout.mpc, vehicle, training.objective)(flight, start)
    v = np.random.default_rng(1).standard_normal(true.size)
    v /= np.linalg.norm(v)

    def J(length):
        request = FlightRequest(start.with_theta(start.theta + length * v), NOMINAL)
        return training.objective.cost(training.fly(request)).J

    assert true @ v == pytest.approx((J(1e-5) - J(-1e-5)) / 2e-5, rel=1e-3)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--levels', '1'], 'the fewest'),
        (['--config', 'tracking', '--directions', 'lag'], 'for policy.kind tracking'),
    ],
)
def test_what_the_study_cannot_do_is_said(words, message, tmp_path, capsys):
    assert main(['study', 'mismatch', *words, '--out', str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
