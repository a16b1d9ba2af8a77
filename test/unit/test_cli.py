"""The command line: quick, readable, and refusing in sentences."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hmpc_ros.cli import main
from hmpc_ros.configuration.files import load
from hmpc_ros.figures.flight import Timing, draw_flight
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.flight_file import load_flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits


def hmpc(*words: str) -> int:
    return main.main(words)


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture):
    code = (
        'import sys\n'
        'from hmpc_ros.cli.main import main\n'
        'try:\n'
        '    main(["--help"])\n'
        'finally:\n'
        '    heavy = {"rclpy", "casadi", "matplotlib", "numpy"} & set(sys.modules)\n'
        '    assert not heavy, heavy\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (_, summary) in main.COMMANDS.items():
        assert name in done.stdout
        assert summary.split()[0] in done.stdout


@pytest.mark.parametrize('command', list(main.COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        hmpc(command, '--help')
    assert end.value.code == 0
    assert f'usage: hmpc {command}' in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture):
    assert hmpc() == 0
    assert 'usage: hmpc' in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        hmpc('flie')
    assert end.value.code == 2
    assert "'flie'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--config', 'nowhere.yaml'], 'there is no parameter file nowhere.yaml'),
        (['--set', 'controller.goal'], "there is no parameter 'goal'"),
        (['--set', 'controller.goal=1'], "there is no parameter 'goal'"),
        (['--set', 'kontroller.goal.yaw=1'], "there is no node 'kontroller'"),
        (['--set', 'simulator.seed=-1'], 'seed must be at least 0'),
        (['--set', 'simulator.time_step=0.05'], 'the MPC would plan for another vehicle'),
        (['--set', 'simulator.vehicle.mass=-1'], 'vehicle.mass must be at least'),
        (['--real-time'], '--offline has no clock'),
    ],
)
def test_what_cannot_be_flown_is_refused_in_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    if words == ['--set', 'controller.goal']:
        sentence = 'is not of the form node.parameter=value'
    assert hmpc('fly', '--offline', '--out', str(tmp_path / 'out'), *words) == 1
    error = capsys.readouterr().err
    assert error.startswith('hmpc fly: ')
    assert sentence in error
    assert 'Traceback' not in error


def test_an_offline_flight_writes_picture_numbers_and_arrays(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    report = tmp_path / 'deep' / 'report.json'
    words = ('--offline', '--steps', '200', '--out', str(tmp_path / 'out'), '--json', str(report))
    assert hmpc('fly', *words) == 0
    result = json.loads(report.read_text())
    assert result == json.loads((tmp_path / 'out' / 'flight.json').read_text())
    assert result['C'] == pytest.approx(1090.1707, abs=5e-5)
    assert result['V'] == pytest.approx(0.375559, abs=5e-7)
    assert result['mode'] == 'offline'
    assert (result['failures'], result['fallbacks'], result['steps']) == (0, 0, 200)
    assert (tmp_path / 'out' / 'flight.png').stat().st_size > 20_000
    assert load_flight(tmp_path / 'out' / 'flight.npz').steps == 200
    output = capsys.readouterr().out
    assert '1090.1707' in output
    assert str(tmp_path / 'out' / 'flight.png') in output


def test_a_flight_that_ends_early_is_no_success_and_its_json_holds_no_infinity(tmp_path: Path):
    code = hmpc(
        *('fly', '--offline', '--steps', '50', '--out', str(tmp_path)),
        # Further over than the model is trusted from the start: no command, no flight.
        *('--set', 'simulator.initial_state=[0, 0, 0, 0, 0, 0, 1.4, 0, 0, 0, 0, 0]'),
    )
    assert code == 1
    result = json.loads((tmp_path / 'flight.json').read_text(), parse_constant=pytest.fail)
    assert result['C'] is None
    assert result['steps'] < 50
    assert 'no command at step' in result['notes'][0]


def test_overrides_are_given_to_the_nodes_in_the_parameters_own_types():
    overrides = [
        'controller.limits.rotor_max=640',
        'simulator.episode_steps=7',
        '**.time_step=0.1',
        'controller.goal.position=[1, 2, 3]',
    ]
    values = load(None, overrides).besides_file()
    assert values['controller'] == {
        'limits.rotor_max': 640.0,
        'time_step': 0.1,
        'goal.position': [1.0, 2.0, 3.0],
    }
    assert values['simulator'] == {'episode_steps': 7, 'time_step': 0.1}
    assert type(values['controller']['limits.rotor_max']) is float


@pytest.mark.parametrize('steps', [1, 2, 40])
def test_any_flight_can_be_drawn(steps: int, tmp_path: Path):
    rng = np.random.default_rng(steps)
    states = 3 * rng.standard_normal((steps + 1, 12)) if steps > 2 else np.zeros((steps + 1, 12))
    flight = Flight(states, np.full((steps, 4), 620.61), Goal(), np.full(4, 620.61))
    for name, timing in (('a', None), ('b', Timing('Solve time', np.full(steps, np.nan)))):
        picture = draw_flight(
            tmp_path / f'{name}.png', flight, Limits(), 0.1, title='t', subtitle='s', timing=timing
        )
        assert picture.stat().st_size > 10_000
    timing = Timing('Solve time', np.full(steps, 1e-3))
    draw_flight(tmp_path / 'c.pdf', flight, Limits(), 0.1, title='t', subtitle='s', timing=timing)
