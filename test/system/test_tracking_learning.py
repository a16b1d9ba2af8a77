"""`hmpc learn --config tracking`, with real processes: the numbers of `hmpc train`."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from command_line import run_command

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


def test_learning_over_ros_is_learning_offline(tmp_path: Path):
    flown = learn('learn', tmp_path / 'ros', '--iterations', '2')
    offline = learn('train', tmp_path / 'offline', '--iterations', '2')
    # The first flight to the last digits; then they are what the tuning makes of them.
    assert flown['start']['J'] == pytest.approx(offline['start']['J'], rel=1e-9)
    for ours, theirs in zip(flown['per_iteration'], offline['per_iteration'], strict=True):
        for name in ('rmse_m', 'max_m'):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-9)
        assert (ours['flights'], ours['accepted']) == (theirs['flights'], theirs['accepted'])
    assert flown['final']['rmse_m'] == pytest.approx(offline['final']['rmse_m'], abs=1e-9)
    assert flown['best']['rmse_m'] < 0.3 * flown['start']['rmse_m']
    for name, found in flown['identified'].items():
        expected = list(offline['identified'][name].values())
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-6, err_msg=name)


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
    assert 'observer on, for comparison' in done.stdout
