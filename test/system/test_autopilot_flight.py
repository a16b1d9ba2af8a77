"""The tracking MPC flies a vehicle behind an autopilot: real controller, adapter and MAVLink."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')
pytest.importorskip('acados', reason='the controller solves with acados')

from geometry_msgs.msg import PoseStamped
from scripted_autopilot import HOLD, OFFBOARD, POSITION, FlyingAutopilot, ScriptedController

from hmpc_ros.ros.graph import find_config, vehicle
from hmpc_ros.ros.runner import LocalRunner

pytestmark = pytest.mark.system


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Anything:
    """A runner whose processes may end."""

    def check(self) -> None:
        pass


@contextlib.contextmanager
def flight():
    """Yield the runner of adapter and controller, the autopilot, and an onlooker."""
    port = free_port()
    # A test machine may be slow; what is tested is who flies, not how fast.
    slow = {'solve_timeout': 1.0, 'max_latency': 0.5, 'state_timeout': 1.0}
    nodes = vehicle(
        'mavlink_adapter',
        parameters={'mavlink_adapter': {'url': f'udp:127.0.0.1:{port}', **slow}},
    )
    with LocalRunner(nodes) as runner:
        peer = FlyingAutopilot(port)
        here = ScriptedController(runner, 'mavlink_adapter')
        here.answers = False  # the real one does
        try:
            here.wait_for(lambda: here.phase == 'ready', 'ready')
            assert not peer.setpoints
            yield runner, peer, here
        finally:
            here.close()
            peer.stop()


def test_one_command_runs_it_and_ctrl_c_hands_back(tmp_path):
    port = free_port()
    slow = (
        find_config('autopilot')
        .read_text()
        .replace(
            'mavlink_adapter:\n  ros__parameters:\n',
            'mavlink_adapter:\n  ros__parameters:\n    solve_timeout: 1.0\n    max_latency: 0.5\n'
            '    state_timeout: 1.0\n',
        )
    )
    (tmp_path / 'mine.yaml').write_text(slow)
    process = subprocess.Popen(
        [
            sys.executable, '-m', 'hmpc_ros.cli.main', 'autopilot', 'run',
            '--config', str(tmp_path / 'mine.yaml'), '--url', f'udp:127.0.0.1:{port}',
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    peer = FlyingAutopilot(port)
    here = ScriptedController(Anything(), 'mavlink_adapter')
    here.answers = False
    try:
        here.wait_for(lambda: here.phase == 'ready', 'ready')
        assert here.call('engage') == (True, 'engaging')
        here.wait_for(lambda: here.phase == 'taken over', 'the take-over')
        process.send_signal(signal.SIGINT)
        here.wait_for(lambda: process.poll() is not None, 'the end')
        here.wait_for(lambda: peer.mode == HOLD, 'hold')
        assert process.returncode == 0
        assert 'asked the autopilot to hold' in process.communicate()[0]
    finally:
        here.close()
        peer.stop()
        process.kill()
        process.wait()


def fly(tmp_path, port: int, **values) -> list[str]:
    """Return the command line of a flight of 4 s, with a figure eight of 1 m."""
    slow = {'solve_timeout': 1.0, 'max_latency': 0.5, 'state_timeout': 1.0}
    eight = {
        'kind': 'lissajous', 'size': [0.5, 0.25], 'rate': 1.2, 'duration': 3.0, 'ramp': 1.0,
    }  # fmt: skip
    given = {f'mavlink_adapter.{name}': value for name, value in slow.items()}
    given |= {f'controller.reference.{name}': value for name, value in eight.items()}
    given |= {'controller.tracking.rmse_after': 0.5, **values}
    words = ['--vehicle', 'mavlink', '--url', f'udp:127.0.0.1:{port}', '--out', str(tmp_path)]
    return [
        sys.executable, '-m', 'hmpc_ros.cli.main', 'fly', *words,
        *(word for name, value in given.items() for word in ('--set', f'{name}={value}')),
    ]  # fmt: skip


def test_one_command_flies_the_reference_and_writes_its_numbers(tmp_path):
    port = free_port()
    peer = FlyingAutopilot(port)
    try:
        # Less than the eight is wide: the adapter knows at which stamp the reference begins.
        bound = {'mavlink_adapter.max_distance': 0.45}
        done = subprocess.run(
            fly(tmp_path, port, **bound), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert peer.mode == HOLD
        assert len(peer.modes) == 2  # taken once, handed back once
    finally:
        peer.stop()
    result = json.loads((tmp_path / 'flight.json').read_text())
    assert result['mode'] == 'vehicle'
    assert result['errors_against'] == "the autopilot's estimate"
    assert result['tracking.rmse_m'] < 0.3
    assert result['latency_ms.median'] > 0.0
    assert result['solve_ms.median'] > 0.0
    assert (tmp_path / 'flight.png').stat().st_size > 10_000
    with np.load(tmp_path / 'flight.npz') as arrays:
        moved = arrays['states'][:, 0]
        assert moved.max() > 0.25 > -0.15 > moved.min()  # it did fly the eight
        assert np.isfinite(arrays['states']).all()
        assert np.isfinite(arrays['inputs']).all()


@pytest.mark.long
def test_a_flight_that_the_pilot_takes_over_is_told_as_such(tmp_path):
    port = free_port()
    peer = FlyingAutopilot(port)
    process = subprocess.Popen(
        fly(tmp_path, port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        end = time.monotonic() + 60.0
        while not (peer.mode == OFFBOARD and np.abs(peer.place[:2]).max() > 0.2):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        peer.mode = POSITION
        words = process.communicate(timeout=60.0)[0]
    finally:
        peer.stop()
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert peer.mode == POSITION  # nobody asked for another one
    result = json.loads((tmp_path / 'flight.json').read_text())
    assert 'the autopilot went to position' in ' '.join(result['notes'])
    assert 'went to position' in words.replace('\n', ' ')


def test_an_autopilot_that_does_not_answer_is_said(tmp_path):
    done = subprocess.run(
        fly(tmp_path, free_port()), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert 'no answer within 5 s: no autopilot is heard at udp:127.0.0.1:' in done.stderr


@pytest.mark.long
def test_twenty_engagements_in_a_row_begin_and_end_when_asked():
    with flight() as (_, peer, here):
        for k in range(20):
            here.wait_for(lambda: here.phase == 'ready', 'ready')
            assert here.call('engage') == (True, 'engaging')
            here.wait_for(lambda: here.phase == 'taken over', 'the take-over')
            here.go_on(0.5)
            assert np.linalg.norm(peer.place - [0.0, 0.0, 2.0]) < 0.3
            assert here.call('hand_back') == (True, 'handing back')
            here.wait_for(lambda: peer.mode == HOLD, 'hold')
            assert len(peer.modes) == 2 * (k + 1)


def test_it_hovers_flies_to_a_goal_and_is_held_when_the_controller_is_killed():
    with flight() as (runner, peer, here):
        assert here.call('engage') == (True, 'engaging')
        here.wait_for(lambda: peer.mode == OFFBOARD, 'offboard')
        here.go_on(2.0)
        assert np.linalg.norm(peer.place - [0.0, 0.0, 2.0]) < 0.3

        goals = here.node.create_publisher(PoseStamped, 'goal_pose', 1)
        here.wait_for(goals.get_subscription_count, 'the controller')
        goal = PoseStamped()
        goal.header.frame_id, goal.pose.orientation.w = 'map', 1.0
        at = goal.pose.position
        at.x, at.y, at.z = 1.5, -1.0, 3.0
        goals.publish(goal)
        here.wait_for(lambda: np.linalg.norm(peer.place - [1.5, -1.0, 3.0]) < 0.2, 'the goal')
        assert here.phase == 'taken over'

        os.kill(runner.pid('controller'), signal.SIGKILL)
        here.runner = Anything()
        here.wait_for(lambda: peer.mode == HOLD, 'hold')
        here.go_on(0.3)  # what is still under way
        sent = len(peer.setpoints)
        here.go_on(1.0)
        assert len(peer.setpoints) == sent
        # Whichever came first: the last rates go on for that long.
        words = here.takeover.message
        assert 'no good solve' in words or 'max_tilt' in words or 'max_speed' in words
