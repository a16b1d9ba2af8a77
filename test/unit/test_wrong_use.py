"""Every command refuses wrong use in one sentence, before it does any work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hmpc_ros.cli import main

FLYING = ('fly', 'demo', 'learn', 'train')
# command, words, part of the sentence. FILE and FOLDER exist, LINK points to nothing.
TABLE: list[tuple[str, str, str]] = [
    *(
        (command, f'--out {place}', sentence)
        for command in (*FLYING, 'reproduce', 'benchmark')
        for place, sentence in (
            ('/dev/null', '/dev/null is no folder'),
            ('FILE', 'FILE is no folder'),
            ('FILE/deeper', 'FILE is no folder'),
            ('LINK', 'is a link to nothing'),
            ('FOLDER/' + 300 * 'x', 'cannot be written: File name too long'),
        )
    ),
    *(
        (command, f'--json {place}', sentence)
        for command in ('fly', 'learn', 'train', 'identify')
        for place, sentence in (
            ('FOLDER', 'is a folder; give a file'),
            ('new/', 'is a folder; give a file'),
            ('FILE/report.json', 'FILE is no folder'),
            ('LINK/report.json', 'is a link to nothing'),
        )
    ),
    *(
        (command, f'{option} {value}', 'must be a whole number from 1 to')
        for command, option in (
            ('fly', '--steps'),
            ('train', '--jobs'),
            ('reproduce', '--jobs'),
            ('reproduce', '--seeds'),
            ('reproduce', '--iterations'),
            ('benchmark', '--jobs'),
            ('benchmark', '--flights'),
            ('identify', '--flights'),
            ('identify', '--steps'),
        )
        for value in ('0', '-1', '100000000', '2.5', 'many')
    ),
    *((command, '--iterations -1', 'iterations must be at least 0') for command in FLYING[2:]),
    *((command, '--seed -1', 'seed must be at least 0') for command in FLYING[1:]),
    *((c, f'--iterations {10**30}', 'iterations needs an integer') for c in FLYING[2:]),
    *((command, '--config nowhere', 'there is no parameter file nowhere') for command in FLYING),
    *((c, '--set simulator.time_step=0.05', 'for another vehicle') for c in FLYING[:3]),
    *((c, '--set simulator.frame_id=odom', 'would not take the odometry') for c in FLYING[:3]),
    ('fly', '--set simulator.resend_period=1.7e+308', 'resend_period must be at most 3600 s'),
    ('fly', '--real-time nan', 'real_time_factor'),
    ('identify', '--out FOLDER', 'is a folder; give a file'),
    ('identify', '--out model', 'must end with .npz'),
    *(
        ('study', f'mismatch {option} {value}', 'must be a whole number from 1 to')
        for option in ('--jobs', '--levels', '--flights')
        for value in ('0', '2.5')
    ),
    ('study', 'mismatch --out FILE', 'FILE is no folder'),
    ('study', 'mismatch --seeds x', 'is neither a seed of up to 9 digits nor a range'),
    ('autopilot', 'status --namespace 9x', "'9x' is no name"),
    ('identify', '--steps 10000 --flights 10000', 'must be at most 1000000 steps in all'),
    ('identify', '--rates -1', 'must not be negative'),
    ('identify', 'nowhere.npz', 'nowhere.npz'),
    ('benchmark', '--seeds 1-999999999', 'is more than 10000 seeds'),
    ('benchmark', '--seeds 9-3', 'is neither a seed of up to 9 digits nor a range'),
    ('benchmark', '--seeds x', 'is neither a seed of up to 9 digits nor a range'),
    ('benchmark', '--seeds ,', '--seeds: there is none'),
    ('watch', '--learner x/y/', 'is no name of a node'),
    ('watch', '--learner 1x', 'is no name of a node'),
    ('watch', '--namespace ///', 'is no name of a node'),
    ('train', '--dask junk', 'is no address such as'),
    ('plot', 'FILE', 'FILE'),
    ('plot', 'nowhere', 'nowhere'),
]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its error, a line after argparse's usage."""
    code: object
    try:
        code = main.main(words)
    except SystemExit as end:
        code = end.code
    text = capsys.readouterr().err
    if code == 2:
        text = text[text.index(f'hmpc {words[0]}: error: ') :]
    assert code in (1, 2)
    lines = text.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f'hmpc {words[0]}: ')
    return lines[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'FILE').write_text('')
    (tmp_path / 'FOLDER').mkdir()
    (tmp_path / 'LINK').symlink_to('nowhere')
    return tmp_path


@pytest.mark.parametrize(('command', 'words', 'sentence'), TABLE)
def test_wrong_use_is_refused_in_one_sentence_and_nothing_is_written(
    command: str,
    words: str,
    sentence: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert sentence in refusal([command, *words.split(' ')], capsys)
    assert sorted(path.name for path in place.rglob('*')) == ['FILE', 'FOLDER', 'LINK']


def test_every_command_is_in_the_table():
    assert {command for command, _, _ in TABLE} == set(main.COMMANDS)


@pytest.mark.parametrize('domain', ['abc', '-1', '233', '1.0', '99999999999999999999'])
@pytest.mark.parametrize('words', ['fly', 'demo', 'learn', 'learn --attach', 'watch --once'])
def test_a_domain_that_is_none_is_refused(
    words: str,
    domain: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    pytest.importorskip('rclpy')
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)
    monkeypatch.setenv('ROS_LOG_DIR', str(place / 'log'))
    assert f"ROS_DOMAIN_ID is '{domain}'" in refusal(words.split(' '), capsys)


@pytest.mark.parametrize(
    ('domain', 'words', 'sentence'),
    [
        ('abc', '', "ROS_DOMAIN_ID is 'abc'"),
        ('', '-p resend_period:=1.7e308', 'resend_period must be at most 3600 s'),
        ('', '-p real_time_factor:=1.0e-300', 'real_time_factor must be 0 or at least 0.001'),
    ],
)
def test_a_node_refuses_in_a_sentence_too(domain: str, words: str, sentence: str, place: Path):
    pytest.importorskip('rclpy')
    done = subprocess.run(
        [sys.executable, '-m', 'hmpc_ros.ros.simulator_node', '--ros-args', *words.split()],
        env={**os.environ, 'ROS_DOMAIN_ID': domain, 'ROS_LOG_DIR': str(place / 'log')},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_middleware_that_is_not_installed_is_named_in_a_sentence():
    pytest.importorskip('rclpy')
    done = subprocess.run(
        [sys.executable, '-m', 'hmpc_ros.ros.controller_node'],
        env={**os.environ, 'RMW_IMPLEMENTATION': 'rmw_none_cpp'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "RMW_IMPLEMENTATION is 'rmw_none_cpp', which is not installed here" in done.stderr
    assert 'Traceback' not in done.stderr


def test_ctrl_c_while_a_command_is_imported_ends_it_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / 'interrupted_command.py').write_text(
        'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(main.COMMANDS, 'plot', ('interrupted_command', 'draw'))
    assert main.main(['plot', 'FOLDER']) == 130
    assert capsys.readouterr().err == 'stopped\n'
    sys.modules.pop('interrupted_command', None)


def test_a_disk_that_is_full_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ['fly', '--offline', '--steps', '2', '--out', str(tmp_path), '--json', '/dev/full']
    assert 'No space left on device' in refusal(words, capsys)
