"""The MAVLink adapter as a process between an autopilot on a UDP socket and a controller on DDS."""

import math
import random
import re
import socket
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')

from scripted_autopilot import (
    BRAKE,
    GUIDED,
    HOLD,
    LOITER,
    OFFBOARD,
    POSITION,
    run_to_its_end,
)
from scripted_autopilot import mavlink_flight as flight

from hmpc_ros.autopilots import mavlink
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.runner import LocalRunner, NodeDiedError

pytestmark = pytest.mark.system

TAKE, GIVE = (1, 6, 0), (1, 4, 3)  # PX4: offboard, auto hold


def nothing_is_sent_again(peer, controller) -> None:
    """All is well again, and nothing engages by itself."""
    controller.wait_for(lambda: controller.phase == 'ready', 'ready')
    controller.go_on(0.3)
    sent, asked = len(peer.setpoints), list(peer.modes)
    controller.go_on(1.5)
    assert len(peer.setpoints) == sent
    assert peer.modes == asked


@pytest.mark.parametrize(
    ('autopilot', 'orders', 'modes', 'end', 'words'),
    [
        (mavlink.PX4, [400], [(1, 4, 2)], HOLD, 'hold'),
        (mavlink.ARDUPILOT, [400, 22], [(1, GUIDED, 0), (1, BRAKE, 0)], BRAKE, 'brake'),
    ],
)
def test_it_arms_and_takes_off_where_that_is_allowed(autopilot, orders, modes, end, words):
    ground = {'autopilot': autopilot, 'armed': False, 'position': (0.0, 0.0, 0.0)}
    ground['mode'] = LOITER if autopilot == mavlink.ARDUPILOT else POSITION
    ground['after_take_off'] = HOLD if autopilot == mavlink.PX4 else 0
    allowed = {'allow_arming': True, 'take_off_height': 2.0}
    with flight(allowed, options=8, **ground) as (peer, controller):
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')
        controller.wait_for(lambda: controller.call('take_off')[0], 'an answer')
        controller.wait_for(lambda: controller.told('take-off') == 'in the air', 'the air')
        assert [command for command, _ in peer.orders] == orders
        assert peer.modes == modes
        assert peer.mode == end
        if autopilot == mavlink.ARDUPILOT:
            assert peer.orders[1][1] == 2.0
        assert controller.call('take_off') == (False, 'the vehicle is armed already')
        assert float(controller.told('clock round trip [s]')) >= 0.0  # it answered TIMESYNC
        controller.stay_at(0.0, 0.0, 2.0)
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        assert controller.told('mode') == words
        assert not peer.setpoints


def test_without_leave_it_never_arms():
    with flight(armed=False) as (peer, controller):
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')
        done, text = controller.call('take_off')
        assert not done
        assert 'allow_arming is false' in text
        controller.go_on(0.5)
        assert not peer.orders
        assert not peer.modes


def test_it_flies_from_engage_to_hand_back():
    with flight(position=(1.0, 2.0, -3.0), velocity=(0.1, 0.2, -0.3), child_frame=1) as (
        peer,
        controller,
    ):
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')
        controller.wait_for(lambda: mavlink.ODOMETRY in peer.intervals, 'a request for states')
        assert peer.intervals[mavlink.ODOMETRY] == pytest.approx(1e4)
        message = controller.odometry
        pose, twist = message.pose.pose, message.twist.twist
        assert (pose.position.x, pose.position.y, pose.position.z) == (2.0, 1.0, 3.0)
        # Facing north: yaw of 90 degrees from east, so that north is ahead and east to the right.
        half = math.sqrt(0.5)
        assert (pose.orientation.w, pose.orientation.z) == pytest.approx((half, half))
        linear, angular = twist.linear, twist.angular
        assert (linear.x, linear.y, linear.z) == pytest.approx((0.1, -0.2, 0.3))
        assert (angular.x, angular.y, angular.z) == pytest.approx((0.1, -0.2, -0.3))
        age = controller.node.get_clock().now().nanoseconds * 1e-9 - (
            message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        )
        assert 0.0 <= age < 30.0  # by our clock, not by the autopilot's that has just begun

        done, text = controller.call('engage')
        assert not done
        assert 'reference_path' in text
        controller.stay_at(5.0, 1.0, 3.0)
        controller.wait_for(
            lambda: 'from the reference' in controller.call('engage')[1], 'a refusal'
        )
        assert not peer.setpoints
        assert not peer.modes

        controller.stay_at(2.0, 1.0, 3.0)
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        assert controller.call('engage') == (True, 'engaging')
        controller.wait_for(lambda: controller.phase == 'taken over', 'the take-over')
        assert peer.modes == [TAKE]
        assert peer.setpoints  # before the mode was asked for
        assert peer.setpoints[-1][1:] == pytest.approx((0.1, -0.2, -0.3, 0.5), abs=1e-6)
        controller.command = (2 * 9.80665, 0.0, 0.0, 0.0)
        controller.wait_for(lambda: peer.setpoints[-1][4] == 1.0, 'full thrust')

        assert controller.call('hand_back') == (True, 'handing back')
        controller.wait_for(lambda: peer.mode == HOLD, 'hold')
        assert peer.modes[-1] == GIVE
        nothing_is_sent_again(peer, controller)


def hmpc(controller, *words: str) -> tuple[int, str]:
    """Run the command line while the controller goes on answering."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'hmpc_ros.cli.main', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        controller.wait_for(lambda: process.poll() is not None, words)
    finally:
        process.kill()
    return process.returncode, process.communicate()[0]


def test_the_command_line_asks_and_tells():
    with flight() as (peer, controller):
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')
        code, text = hmpc(controller, 'autopilot', 'engage')
        assert code == 1
        assert 'refused: ' in text
        assert 'reference_path' in text
        controller.engage()
        code, text = hmpc(controller, 'autopilot', 'status')
        assert code == 0
        assert 'taken over: the autopilot is in offboard' in text
        assert re.search(r'hover throttle +0\.500', text)
        assert hmpc(controller, 'autopilot', 'hand-back') == (0, 'handing back\n')
        controller.wait_for(lambda: peer.mode == HOLD, 'hold')
        nobody = '--timeout', '0.1', '--adapter', 'nobody'
        code, text = hmpc(controller, 'autopilot', 'status', *nobody)
        assert code != 0
        assert 'no nobody answered' in text


def test_the_pilot_takes_over_and_keeps_it():
    with flight() as (peer, controller):
        controller.engage()
        peer.mode = 2 << 16  # the pilot's switch: altitude
        controller.wait_for(lambda: 'altitude' in controller.takeover.message, 'the pilot')
        assert peer.modes == [TAKE]
        nothing_is_sent_again(peer, controller)


@pytest.mark.parametrize(
    ('what', 'word'),
    [
        ('no answers', 'no good solve'),
        ('fallback', 'no good solve'),
        ('nan', 'not finite'),
        ('reset', 'reset'),
        ('silence', 'state_timeout'),
    ],
)
def test_what_breaks_ends_the_set_points_and_hands_back(what, word):
    with flight() as (peer, controller):
        controller.engage()
        peer.obeys = what == 'reset'
        if what == 'no answers':
            controller.answers = False
        elif what == 'fallback':
            controller.solves = False
        elif what == 'nan':
            peer.position = (math.nan, 0.0, -2.0)
        elif what == 'reset':
            peer.resets = 1
        elif what == 'silence':
            peer.stop()
        controller.wait_for(lambda: word in controller.takeover.message, word)
        if what == 'silence':
            return
        controller.wait_for(lambda: peer.modes[-1] == GIVE, 'a request to hold')
        if what != 'reset':  # the autopilot does not listen: only its own failsafe is left
            controller.go_on(2.5)
            sent = len(peer.setpoints)
            controller.go_on(0.5)
            assert len(peer.setpoints) == sent
            assert peer.mode == OFFBOARD
            return
        nothing_is_sent_again(peer, controller)


def test_the_hover_throttle_is_measured_before_it_is_ready():
    with flight({'hover_throttle': 0.0}, position=(0.0, 0.0, 0.0), throttle=0.12) as (
        peer,
        controller,
    ):
        controller.stay_at(0.0, 0.0, 2.0)
        controller.go_on(4.0)  # it idles on the ground, which is no hover
        controller.wait_for(lambda: 'hover throttle' in controller.call('engage')[1], 'a refusal')
        peer.position, peer.throttle = (0.0, 0.0, -2.0), 0.49
        controller.engage()
        controller.wait_for(lambda: bool(peer.setpoints), 'a set-point')
        assert peer.setpoints[-1][4] == pytest.approx(0.49, abs=1e-3)


def test_ardupilot_is_flown_in_guided_mode_once_a_thrust_is_a_thrust():
    with flight(autopilot=mavlink.ARDUPILOT, mode=LOITER) as (peer, controller):
        controller.stay_at(0.0, 0.0, 2.0)
        controller.wait_for(lambda: 'which is 0' in controller.call('engage')[1], 'a refusal')
        assert 'GUID_OPTIONS' in controller.call('engage')[1]
        peer.options = 8
    with flight(autopilot=mavlink.ARDUPILOT, mode=LOITER, options=8) as (peer, controller):
        controller.engage()
        assert peer.mode == GUIDED
        controller.call('hand_back')
        controller.wait_for(lambda: peer.mode == LOITER, 'loiter')


def test_it_flies_on_whatever_else_comes_to_its_port():
    with flight() as (peer, controller):
        controller.engage()
        noise = random.Random(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for length in range(200):
                stranger.sendto(noise.randbytes(length), ('127.0.0.1', peer.port))
                stranger.sendto(b'\xfd' + noise.randbytes(length), ('127.0.0.1', peer.port))
        sent = len(peer.setpoints)
        controller.wait_for(lambda: len(peer.setpoints) > sent + 50, 'more set-points')
        assert controller.phase == 'taken over'


def test_ending_the_adapter_hands_back():
    with flight() as (peer, controller):
        controller.engage()
        controller.runner.stop()
        assert peer.mode in (HOLD, OFFBOARD)
        controller.executor.spin_once(timeout_sec=0.1)
        for _ in range(100):
            if peer.mode == HOLD:
                break
            controller.executor.spin_once(timeout_sec=0.05)
        assert peer.modes[-1] == GIVE


def test_a_wrong_parameter_ends_the_process_with_a_sentence():
    for name, value, words in (
        ('url', 'udp:127.0.0.1', "url: 'udp:127.0.0.1' cannot be opened"),
        ('fence_low', [0.0, 0.0, 20.0], 'must be below fence_high'),
    ):
        spec = NodeSpec(
            executable='mavlink_adapter',
            module='hmpc_ros.ros.mavlink_adapter_node',
            name='mavlink_adapter',
            parameters={name: value},
        )
        with LocalRunner([spec]) as runner, pytest.raises(NodeDiedError, match='error: ') as died:
            run_to_its_end(runner)
        assert words in str(died.value)
        assert 'Traceback' not in str(died.value)


def test_a_url_that_cannot_be_opened_is_said():
    with pytest.raises(ValueError, match=r'udp:127\.0\.0\.1:14540'):
        mavlink.MavlinkLink('udp:127.0.0.1')
    with pytest.raises(ValueError, match='cannot be opened'):
        mavlink.MavlinkLink('/dev/no_such_device')
