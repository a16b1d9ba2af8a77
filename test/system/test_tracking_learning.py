"""`hmpc learn --config tracking`, with real processes: the numbers of `hmpc train`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

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
    """Run a command as a user does; return its JSON."""
    sets = [word for name, value in SHORT.items() for word in ('--set', f'{name}={value}')]
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'hmpc_ros.cli.main', command, '--config', 'tracking'),
            *('--out', str(out), '--json', f'{out}.json', *words, *sets),
        ],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
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
