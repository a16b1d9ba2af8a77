"""`hmpc learn --config tracking`, with real processes: the numbers of `hmpc train`."""

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from command_line import run_command
from learning_graph import LearningGraph
from PIL import Image

from hmpc_ros.configuration import files, tracking_learner
from hmpc_ros.share import config_dir

pytestmark = pytest.mark.system

SHORT = {
    'simulator.backend': 'model',
    'simulator.mass_scale': 1.2,
    'simulator.position_noise_std': 0.002,
    'simulator.seed': 3,
    'controller.reference.duration': 3.0,
    'controller.reference.ramp': 1.0,
    'controller.tracking.rmse_after': 1.0,
}


def learn(command: str, out: Path, *words: str) -> dict:
    """Learn; return the JSON."""
    words = ('--config', 'tracking', '--out', str(out), '--json', f'{out}.json', *words)
    done = run_command(command, *words, **SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(Path(f'{out}.json').read_text())


@pytest.fixture(scope='module')
def offline(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Return the records of a run without ROS."""
    words = [f'{name}={value}' for name, value in {**SHORT, 'learner.iterations': 2}.items()]
    configuration = files.load(config_dir() / 'tracking.yaml', words)
    out = tmp_path_factory.mktemp('offline') / 'run'
    return tracking_learner.train_offline(configuration, out, jobs=2).results.records


@pytest.fixture
def graph(tmp_path: Path):
    """Return a function that makes a graph; its processes are gone after the test."""
    os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(config_dir() / 'fastdds_discovery.xml')
    with ExitStack() as stack:

        def make(**parameters) -> LearningGraph:
            given: dict[str, dict] = {'learner': {'rule': 'trust_region', 'iterations': 2}}
            for name, value in SHORT.items():
                node, _, parameter = name.partition('.')
                given.setdefault(node, {})[parameter] = value
            for name, values in parameters.items():
                given[name].update(values)
            return LearningGraph(tmp_path / 'run', stack, 'tracking', **given)

        yield make


def assert_same(records: list[dict], others: list[dict]) -> None:
    """Compare two runs: the first flight to the last digits, then what the tuning makes of them."""
    assert records[0]['J'] == pytest.approx(others[0]['J'], rel=1e-9)
    assert len(records) == len(others)
    for ours, theirs in zip(records, others, strict=True):
        for name in ('rmse_m', 'max_m'):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-9)
        assert ours['flights'] == theirs['flights']
        assert ours.get('accepted') == theirs.get('accepted')


def test_learning_over_ros_is_learning_offline(tmp_path: Path, offline):
    flown = learn('learn', tmp_path / 'ros', '--iterations', '2')
    assert_same([*flown['per_iteration'], flown['final']], [*offline[:-1], offline[-1]])
    assert flown['best']['rmse_m'] < 0.3 * flown['start']['rmse_m']
    for name, found in flown['identified'].items():
        expected = list(offline[-2]['identified'][name].values())
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-6, err_msg=name)
    # What was learned can be flown from the start.
    weights = tmp_path / 'ros' / 'best_weights.yaml'
    words = ('--config', 'tracking', '--json', str(tmp_path / 'again.json'))
    given = {**SHORT, 'controller.weights_file': str(weights)}
    done = run_command('fly', *words, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    again = json.loads((tmp_path / 'again.json').read_text())
    assert again['tracking.rmse_m'] < 0.3 * flown['start']['rmse_m']


def test_a_learner_killed_in_flight_leaves_the_accepted_and_goes_on_with_the_same_numbers(
    graph, offline
):
    graph = graph()
    learner = graph.specs['learner']
    graph.held_in('nominal', after=2).start()  # the first is flown twice: noise is to be known
    graph.until_held()
    lent, lease = graph.policy()
    accepted = graph.accepted_theta()
    assert lease > 0
    assert not np.array_equal(lent, accepted)
    graph.kill('learner')
    graph.until_kept(accepted)
    graph.until_flying()
    graph.add(replace(learner)).start('learner')
    graph.until_done()
    assert_same(graph.records(), offline)
    best = min((r for r in graph.records()[:-1]), key=lambda record: record['J'])
    graph.until_kept(np.array(best['theta']))


def test_a_vehicle_that_nobody_resets_flies_to_the_start_by_itself(graph):
    simulator = {'episode_steps': 0, 'start_paused': False}
    # A vehicle that may not fall is changed by small steps, and needs more of them.
    learner = {'reset': 'fly', 'max_repeats': 1000, 'iterations': 4}
    graph = graph(simulator=simulator, learner=learner).start()
    graph.until_done()
    first, *_, last = graph.records()
    assert last['rmse_m'] < 0.5 * first['rmse_m']
    assert graph.monitor.progress.unsafe_flights == 0


@pytest.mark.long
def test_the_demonstration_learns_over_ros_and_tells_what_it_found(tmp_path: Path):
    words = ('--iterations', '2', '--out', str(tmp_path / 'demo'))
    done = run_command('demo', '--config', 'demo', *words, **SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / 'demo' / 'demo.json').read_text())
    after, best = told['after'], told['learning']['best']
    assert after['rmse_m'] == pytest.approx(best['rmse_m'], rel=0.2)
    # The observer alone makes up for much, and what was learned for more.
    assert after['rmse_m'] < told['before_with_observer']['rmse_m'] < told['before']['rmse_m']
    (gain,) = [each for each in told['identified'] if each['name'] == 'thrust_gain']
    assert gain['truth'] == pytest.approx(1 / 1.2)
    assert gain['estimate'] == pytest.approx(gain['truth'], abs=0.01)
    assert (tmp_path / 'demo' / 'demo.png').stat().st_size > 50_000
    with Image.open(tmp_path / 'demo' / 'demo.gif') as film:
        assert 15 < film.n_frames <= 21  # 10 a second of those that count; like ones are one
    assert 'observer on, for comparison' in done.stdout
