"""`hmpc fly` over ROS, with real processes: the costs are the reference's, each time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from hmpc_ros.policy.linear.flight_file import load_flight

pytestmark = pytest.mark.system

REFERENCE_C, REFERENCE_V = 1090.1707, 0.375559  # two independent implementations


def fly(out: Path, *arguments: str) -> dict:
    """Run `hmpc fly` as a user does, and return its JSON."""
    temporary = out / 'tmp'
    temporary.mkdir(parents=True)
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'hmpc_ros.cli.main',
            'fly',
            '--out',
            str(out),
            '--json',
            str(out / 'result.json'),
            *arguments,
        ],
        env={**os.environ, 'TMPDIR': str(temporary)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == [], 'temporary files were left behind'
    result = json.loads((out / 'result.json').read_text())
    assert (out / 'flight.png').stat().st_size > 20_000
    assert re.search(rf'^C +{result["C"]:.4f} ', done.stdout, re.MULTILINE)
    return result


@pytest.fixture(scope='module')
def over_ros(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return fly(tmp_path_factory.mktemp('ros') / 'out')


def test_the_reference_flight_over_ros_has_the_reference_cost(over_ros: dict):
    assert over_ros['mode'] == 'ros'
    assert over_ros['C'] == pytest.approx(REFERENCE_C, abs=5e-5)
    assert over_ros['V'] == pytest.approx(REFERENCE_V, abs=5e-7)
    assert over_ros['J'] == pytest.approx(REFERENCE_C + 300 * REFERENCE_V, abs=2e-4)
    assert over_ros['steps'] == 200
    assert (over_ros['failures'], over_ros['fallbacks']) == (0, 0)
    assert over_ros['rotor_max'] == 630.0
    assert over_ros['rotor_min'] > 590.0


def test_the_result_says_what_was_run(over_ros: dict):
    assert set(over_ros['versions']) >= {'hmpc_ros', 'acados', 'casadi', 'numpy', 'python'}
    assert over_ros['date'].startswith('20')
    assert over_ros['seed'] == 0
    assert over_ros['configuration']['simulator']['real_time_factor'] == 0.0
    assert over_ros['configuration']['controller']['goal.position'] == [-6.0, -3.5, 0.0]
    assert ' fly --out ' in over_ros['command']


def test_over_ros_again_and_offline_the_cost_is_the_same(over_ros: dict, tmp_path: Path):
    again = fly(tmp_path / 'again')
    offline = fly(tmp_path / 'offline', '--offline')
    for other in (again, offline):
        for name in ('C', 'V', 'J', 'rotor_min', 'rotor_max'):
            assert other[name] == pytest.approx(over_ros[name], rel=1e-9)
    states = [load_flight(tmp_path / name / 'flight.npz').states for name in ('again', 'offline')]
    assert np.abs(states[0] - states[1]).max() < 1e-8


def test_a_disturbed_flight_is_the_same_over_ros_and_offline_noise_included(tmp_path: Path):
    flown = fly(tmp_path / 'ros', '--config', 'disturbed', '--steps', '120')
    offline = fly(tmp_path / 'offline', '--config', 'disturbed', '--steps', '120', '--offline')
    assert flown['finite']
    assert flown['inside_rotor_limits']
    assert flown['final_distance'] < 2.0
    assert flown['C'] == pytest.approx(offline['C'], rel=1e-6)
    flight = load_flight(tmp_path / 'ros' / 'flight.npz')
    assert np.all((flight.inputs >= 0.0) & (flight.inputs <= 650.0))


def test_a_flight_at_the_pace_of_the_clock_reaches_its_goal(tmp_path: Path):
    result = fly(tmp_path / 'out', '--config', 'wall_clock', '--real-time', '4')
    assert result['steps'] == 200
    assert result['final_distance'] < 0.05
    assert result['inside_rotor_limits']
    # It cannot be quicker than the clock it is paced by.
    assert result['wall_time'] > 4.5


def test_overrides_reach_the_nodes(tmp_path: Path):
    result = fly(
        tmp_path / 'out',
        *('--steps', '150'),
        *('--set', 'controller.goal.position=[1, 0, 0.5]'),
        *('--set', 'controller.limits.rotor_max=640'),
        *('--set', 'simulator.initial_state=[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]'),
    )
    assert result['final_distance'] < 0.1
    flight = load_flight(tmp_path / 'out' / 'flight.npz')
    assert flight.states[0, :3] == pytest.approx([0, 1, 0], abs=1e-12)
    assert flight.states[-1, :3] == pytest.approx([1, 0, 0.5], abs=0.1)


def test_an_x_frame_flies_to_its_goal_through_the_nodes(tmp_path: Path):
    frame = [
        word
        for node in ('simulator', 'controller')
        for value in ('frame=x', 'rotor_directions=[1, -1, 1, -1]')
        for word in ('--set', f'{node}.vehicle.{value}')
    ]
    result = fly(
        tmp_path / 'out', *frame, '--set', 'controller.goal.position=[1, 0.5, 0.5]',
        '--set', 'controller.goal.yaw=0.5',
    )  # fmt: skip
    assert result['final_distance'] < 0.05
    flight = load_flight(tmp_path / 'out' / 'flight.npz')
    assert flight.states[-1, 8] == pytest.approx(0.5, abs=0.05)
