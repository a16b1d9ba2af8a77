"""The tracking MPC flies a vehicle behind an autopilot: real controller, adapter and MAVLink."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')
pytest.importorskip('acados', reason='the controller solves with acados')

from geometry_msgs.msg import PoseStamped
from scripted_autopilot import HOLD, OFFBOARD, FlyingAutopilot, ScriptedController

from hmpc_ros.ros.graph import find_config, vehicle
from hmpc_ros.ros.runner import LocalRunner

pytestmark = pytest.mark.system


class Anything:
    """A runner whose processes may end."""

    def check(self) -> None:
        pass


@contextlib.contextmanager
def flight():
    """Yield the runner of adapter and controller, the autopilot, and an onlooker."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
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
