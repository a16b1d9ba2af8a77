"""The PX4 adapter as a process: real DDS, messages with the fields of PX4's, a scripted PX4."""

import contextlib
import importlib.util
import math
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosidl_cli', reason='the generators come with the ROS wheels')
if shutil.which('g++') is None:
    pytest.skip('no C++ compiler to build messages with', allow_module_level=True)

import message_packages
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from scripted_autopilot import ScriptedController, run_to_its_end

from hmpc_ros.autopilots import px4
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.runner import LocalRunner, NodeDiedError

pytestmark = pytest.mark.system

POSITION, HOLD, OFFBOARD, TAKEOFF, LAND = 2, 4, 14, 17, 18
OUT = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
IN = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope='module')
def messages():
    """Return the built package, importable here and in the processes that are started."""
    if 'px4_msgs' in sys.modules:
        pytest.skip("a px4_msgs of the environment's own is imported already")
    with message_packages.built(message_packages.PX4):
        import px4_msgs.msg

        yield px4_msgs.msg


class ScriptedPx4:
    """A PX4 that holds still, does what its fields say, and fails over without heartbeats.

    Attributes:
        heartbeats, setpoints: when they came [s]; of a set-point, the message too.
    """

    def __init__(self, controller: ScriptedController, messages, status: str = ''):
        self.messages = messages
        self.nav_state = POSITION
        self.position, self.resets, self.quality = [1.0, 2.0, -3.0], 0, 0
        self.frame, self.velocity = 1, [0.1, 0.2, -0.3]
        self.obeys = self.armed = True
        self.heartbeats: list[float] = []
        self.setpoints: list = []
        self.modes: list = []
        self.clock = lambda: round(1e6 * (time.monotonic() - began))
        began = time.monotonic() - 30.0  # since PX4 booted
        node = controller.node

        def out(name, kind, real=''):
            return node.create_publisher(kind, real or px4.topic('fmu', 'out', name, kind), OUT)

        self._odometry = out('vehicle_odometry', messages.VehicleOdometry)
        self._status = out('vehicle_status', messages.VehicleStatus, status)
        self._battery = out('battery_status', messages.BatteryStatus)
        node.create_subscription(
            messages.OffboardControlMode, 'fmu/in/offboard_control_mode', self._on_mode, IN
        )
        node.create_subscription(
            messages.VehicleRatesSetpoint, 'fmu/in/vehicle_rates_setpoint', self._on_rates, IN
        )
        node.create_subscription(
            messages.VehicleCommand, 'fmu/in/vehicle_command', self._on_command, IN
        )
        self._turn = 0
        node.create_timer(0.01, self._tell)

    def _tell(self):
        m = self.messages
        now = self.clock()
        self._odometry.publish(
            m.VehicleOdometry(
                timestamp=now, timestamp_sample=now - 2000, pose_frame=1,
                position=np.array(self.position, np.float32),
                q=np.array([1.0, 0.0, 0.0, 0.0], np.float32), velocity_frame=self.frame,
                velocity=np.array(self.velocity, np.float32),
                angular_velocity=np.array([0.1, 0.2, 0.3], np.float32),
                reset_counter=self.resets, quality=self.quality,
            )
        )  # fmt: skip
        if self._turn % 10 == 0:
            lost = not self.heartbeats or time.monotonic() - self.heartbeats[-1] > 1.0
            if self.nav_state == OFFBOARD and lost:
                self.nav_state = HOLD  # its failsafe
            arming_state = 2 if self.armed else 1
            self._status.publish(
                m.VehicleStatus(
                    timestamp=now, arming_state=arming_state, nav_state=self.nav_state
                )
            )
            self._battery.publish(m.BatteryStatus(timestamp=now, voltage_v=15.8, remaining=0.8))
        self._turn += 1

    def _on_mode(self, message):
        assert message.body_rate
        assert not any((message.position, message.velocity, message.attitude))
        assert abs(message.timestamp - self.clock()) < 30e6  # by PX4's clock
        self.heartbeats.append(time.monotonic())

    def _on_rates(self, message):
        self.setpoints.append((self.nav_state, message))

    def _on_command(self, message):
        assert message.from_external
        self.modes.append((message.command, message.param1, message.param2, message.param3))
        wanted = round(message.param2), round(message.param3)
        if message.command == 400:
            self.armed = message.param1 == 1.0
        elif self.obeys:
            self.nav_state = {(6, 0): OFFBOARD, (4, 2): TAKEOFF, (4, 3): HOLD}[wanted]
        if self.nav_state == TAKEOFF and self.armed:
            self.position[2], self.nav_state = -3.0, HOLD


@contextlib.contextmanager
def flight(messages, status: str = '', **parameters):
    spec = NodeSpec(
        executable='px4_adapter',
        module='hmpc_ros.ros.px4_adapter_node',
        name='px4_adapter',
        parameters={
            'hover_throttle': 0.5, 'max_latency': 1.0, 'solve_timeout': 1.0, 'state_timeout': 1.0,
            **parameters,
        },
    )  # fmt: skip
    with LocalRunner([spec]) as runner:
        controller = ScriptedController(runner, 'px4_adapter')
        try:
            yield ScriptedPx4(controller, messages, status), controller
        finally:
            controller.close()


def engaged(peer: ScriptedPx4, controller: ScriptedController) -> None:
    controller.stay_at(2.0, 1.0, 3.0)
    controller.wait_for(lambda: controller.phase == 'ready', 'ready')
    assert controller.call('engage') == (True, 'engaging')
    controller.wait_for(lambda: controller.phase == 'taken over', 'the take-over')
    controller.wait_for(lambda: any(mode == OFFBOARD for mode, _ in peer.setpoints), 'set-points')


def test_a_missing_package_ends_the_process_with_a_sentence():
    if importlib.util.find_spec('px4_msgs') is not None:
        pytest.skip('px4_msgs is installed here')
    spec = NodeSpec('px4_adapter', 'hmpc_ros.ros.px4_adapter_node', 'px4_adapter')
    with LocalRunner([spec]) as runner, pytest.raises(NodeDiedError, match='error: ') as died:
        run_to_its_end(runner)
    assert 'build the package px4_msgs' in str(died.value)
    assert 'Traceback' not in str(died.value)


def test_it_flies_from_engage_to_hand_back(messages):
    with flight(messages) as (peer, controller):
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')
        pose, twist = controller.odometry.pose.pose, controller.odometry.twist.twist
        assert (pose.position.x, pose.position.y, pose.position.z) == (2.0, 1.0, 3.0)
        half = math.sqrt(0.5)
        assert (pose.orientation.w, pose.orientation.z) == pytest.approx((half, half))
        linear, angular = twist.linear, twist.angular
        assert (linear.x, linear.y, linear.z) == pytest.approx((0.1, -0.2, 0.3))
        assert (angular.x, angular.y, angular.z) == pytest.approx((0.1, -0.2, -0.3))
        controller.wait_for(lambda: controller.takeover.values, 'word of the take-over')
        assert not controller.call('engage')[0]
        controller.go_on(0.5)
        assert not any((peer.heartbeats, peer.setpoints, peer.modes))

        engaged(peer, controller)
        assert peer.modes == [(176, 1.0, 6.0, 0.0)]
        message = peer.setpoints[-1][1]
        assert (message.roll, message.pitch, message.yaw) == pytest.approx((0.1, -0.2, -0.3))
        assert message.thrust_body.tolist() == [0.0, 0.0, -0.5]
        # PX4 would obey rates in its own modes too: none before it was asked for offboard.
        assert sum(mode != OFFBOARD for mode, _ in peer.setpoints) < 60
        assert len(peer.heartbeats) >= 10

        assert controller.call('hand_back') == (True, 'handing back')
        controller.wait_for(lambda: peer.nav_state == HOLD, 'hold')
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        controller.go_on(0.3)  # what is still under way
        counts = len(peer.heartbeats), len(peer.setpoints), len(peer.modes)
        controller.go_on(1.5)
        assert counts == (len(peer.heartbeats), len(peer.setpoints), len(peer.modes))


def test_it_arms_and_takes_off_only_where_that_is_allowed(messages):
    def on_the_ground(peer: ScriptedPx4, controller: ScriptedController) -> None:
        peer.armed, peer.position[2] = False, 0.0
        controller.wait_for(lambda: controller.told('armed') == 'false', 'the ground')
        controller.wait_for(lambda: controller.odometry is not None, 'odometry')

    with flight(messages) as (peer, controller):
        on_the_ground(peer, controller)
        done, text = controller.call('take_off')
        assert (done, 'allow_arming is false' in text) == (False, True)
        controller.go_on(0.5)
        assert not peer.modes

    with flight(messages, allow_arming=True) as (peer, controller):
        on_the_ground(peer, controller)
        controller.wait_for(lambda: controller.call('take_off')[0], 'an answer')
        controller.wait_for(lambda: controller.told('take-off') == 'in the air', 'the air')
        assert [order[:2] for order in peer.modes] == [(176, 1.0), (400, 1.0)]
        assert peer.modes[0][2:] == (4.0, 2.0)
        assert peer.nav_state == HOLD
        assert controller.call('take_off') == (False, 'the vehicle is armed already')
        controller.stay_at(2.0, 1.0, 3.0)
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        assert (peer.setpoints, peer.heartbeats) == ([], [])  # to engage is another request


@pytest.mark.parametrize('what', ['fallback', 'no answers', 'nan', 'controller stale'])
def test_the_heartbeat_ends_with_the_ladder_so_that_px4_fails_over(messages, what):
    with flight(messages) as (peer, controller):
        engaged(peer, controller)
        peer.obeys = False  # even if it heard no request any more
        before = len(peer.heartbeats)
        if what == 'fallback':
            controller.solves = False
        elif what == 'no answers':
            controller.answers = False
        elif what == 'nan':
            peer.position[0] = math.nan
        else:
            controller.stamp_shift = 1
        controller.wait_for(lambda: peer.nav_state == HOLD, "PX4's failsafe")
        assert len(peer.heartbeats) <= before + 5  # of steps that were under way
        controller.go_on(0.3)  # what is still under way
        counts = len(peer.heartbeats), len(peer.setpoints)
        controller.solves = controller.answers = True
        controller.stamp_shift = 0
        peer.position[0] = 1.0
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        controller.go_on(1.5)
        assert counts == (len(peer.heartbeats), len(peer.setpoints))


def test_the_pilot_or_a_reset_end_it(messages):
    with flight(messages) as (peer, controller):
        engaged(peer, controller)
        peer.resets = 1
        controller.wait_for(lambda: 'reset' in controller.takeover.message, 'the reset')
        controller.wait_for(lambda: peer.nav_state == HOLD, 'hold')
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        engaged(peer, controller)
        asked = len(peer.modes)
        peer.nav_state = LAND
        controller.wait_for(lambda: 'land' in controller.takeover.message, 'the pilot')
        controller.go_on(0.5)
        assert len(peer.modes) == asked


def test_killing_the_adapter_leaves_it_to_px4_and_a_new_one_does_not_engage(messages):
    with flight(messages) as (peer, controller):
        engaged(peer, controller)
        os.kill(controller.runner.pid('px4_adapter'), signal.SIGKILL)
        with LocalRunner(controller.runner.nodes) as again:
            controller.runner = again
            controller.wait_for(lambda: peer.nav_state == HOLD, "PX4's failsafe")
            controller.go_on(0.3)  # what is still under way
            counts = len(peer.heartbeats), len(peer.setpoints), len(peer.modes)
            controller.wait_for(lambda: controller.phase == 'waiting', 'the new adapter')
            controller.stay_at(2.0, 1.0, 3.0)
            controller.wait_for(lambda: controller.phase == 'ready', 'ready again')
            controller.go_on(1.0)
            assert counts == (len(peer.heartbeats), len(peer.setpoints), len(peer.modes))


def test_a_topic_of_another_version_is_said(messages):
    with flight(messages, status='fmu/out/vehicle_status_v4') as (_, controller):
        controller.wait_for(
            lambda: 'vehicle_status_v4, but px4_msgs here is for' in controller.call('engage')[1],
            'word of the version',
        )
