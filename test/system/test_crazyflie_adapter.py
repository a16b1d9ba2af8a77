"""The Crazyflie adapter as a process: real DDS, Crazyswarm2's fields, a scripted server."""

import contextlib
import importlib.util
import math
import shutil

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosidl_cli', reason='the generators come with the ROS wheels')
if shutil.which('g++') is None:
    pytest.skip('no C++ compiler to build messages with', allow_module_level=True)

import message_packages
import numpy as np
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from scripted_autopilot import ScriptedController, run_to_its_end
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hmpc_ros.ros.conversions import nanoseconds, planned_state
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.runner import LocalRunner, NodeDiedError

pytestmark = pytest.mark.system

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
CAN_FLY, FLYING, LOCKED = 8, 16, 64


@pytest.fixture(scope='module')
def crazyflie():
    """Return the built package, importable here and in the processes that are started."""
    with message_packages.built(message_packages.CRAZYSWARM):
        import crazyflie_interfaces.msg
        import crazyflie_interfaces.srv

        yield crazyflie_interfaces


class ScriptedServer:
    """Crazyswarm2's server of a vehicle that hovers 2 m up and turns slowly."""

    def __init__(self, controller: ScriptedController, crazyflie):
        self.node, self.crazyflie = controller.node, crazyflie
        self.z = 2.0
        self.x, self.supervisor, self.voltage, self.power = 0.0, FLYING, 4.0, 0
        self.talks = True
        self.full_states: list = []
        self.rates: list = []
        self.events: list = []  # of services and set-points, in the order that they came
        node, base = self.node, 'cf231'
        self._odometry = node.create_publisher(Odometry, f'{base}/odom', RELIABLE)
        self._status = node.create_publisher(crazyflie.msg.Status, f'{base}/status', RELIABLE)
        node.create_subscription(
            crazyflie.msg.FullState, f'{base}/cmd_full_state', self._on_full_state, RELIABLE
        )
        node.create_subscription(Twist, f'{base}/cmd_vel_legacy', self._on_rates, RELIABLE)
        self.teleop = node.create_publisher(crazyflie.msg.Hover, f'{base}/cmd_hover', RELIABLE)
        services = {
            'notify_setpoints_stop': 'NotifySetpointsStop', 'go_to': 'GoTo', 'arm': 'Arm',
            'takeoff': 'Takeoff',
        }  # fmt: skip
        for name, kind in services.items():

            def serve(request, response, name=name):
                self.events.append((name, request))
                return response

            node.create_service(getattr(crazyflie.srv, kind), f'{base}/{name}', serve)
        self._turn = 0
        node.create_timer(0.01, self._tell)

    def _on_full_state(self, message) -> None:
        self.full_states.append(message)
        self.events.append(('set-point', message))

    def _on_rates(self, message) -> None:
        self.rates.append(message)
        self.events.append(('set-point', message))

    def _tell(self) -> None:
        if not self.talks:
            return
        angle = 0.5 * 0.4 * 0.01 * self._turn  # a yaw of 0.4 rad/s
        message = Odometry()
        message.header.stamp = self.node.get_clock().now().to_msg()
        at, turned = message.pose.pose.position, message.pose.pose.orientation
        at.x, at.z = self.x, self.z
        turned.w, turned.z = math.cos(angle), math.sin(angle)
        message.twist.twist.linear.x = 0.1  # in the world
        self._odometry.publish(message)
        if self._turn % 10 == 0:
            self._status.publish(
                self.crazyflie.msg.Status(
                    supervisor_info=self.supervisor,
                    battery_voltage=self.voltage,
                    pm_state=self.power,
                )
            )
        self._turn += 1


class PlanningController(ScriptedController):
    """One that plans to go on to x = 0.5 m at 1 m/s, accelerated by 2 m/s^2."""

    def __init__(self, runner: LocalRunner, adapter: str):
        self.ahead = 0.5
        super().__init__(runner, adapter)
        self._plans = self.node.create_publisher(MultiDOFJointTrajectory, 'planned_state', 1)

    def _on_odometry(self, message: Odometry) -> None:
        if self.answers:
            plan = np.zeros((3, 14))
            plan[:, 0], plan[:, 2], plan[:, 6] = self.ahead, 2.0, 1.0
            plan[:, 3] = 0.9, 1.0, 1.1
            plan[:, 11:] = 0.1, 0.2, 0.3
            time = nanoseconds(message.header.stamp)
            self._plans.publish(planned_state(plan, time, 0.05, 'map'))
        super()._on_odometry(message)


@contextlib.contextmanager
def flight(crazyflie, **parameters):
    spec = NodeSpec(
        executable='crazyflie_adapter',
        module='hmpc_ros.ros.crazyflie_adapter_node',
        name='crazyflie_adapter',
        parameters={
            'max_latency': 1.0, 'solve_timeout': 1.0, 'state_timeout': 1.0, **parameters,
        },
    )  # fmt: skip
    with LocalRunner([spec]) as runner:
        controller = PlanningController(runner, 'crazyflie_adapter')
        try:
            yield ScriptedServer(controller, crazyflie), controller
        finally:
            controller.close()


def expect_rest(server: ScriptedServer, controller: ScriptedController) -> None:
    """Nothing more is commanded, and nothing is taken over by itself."""
    controller.go_on(0.3)  # what is still under way
    count = len(server.events)
    controller.go_on(0.3)
    assert len(server.events) == count


def test_a_missing_package_ends_the_process_with_a_sentence():
    if importlib.util.find_spec('crazyflie_interfaces') is not None:
        pytest.skip('crazyflie_interfaces is installed here')
    spec = NodeSpec(
        'crazyflie_adapter', 'hmpc_ros.ros.crazyflie_adapter_node', 'crazyflie_adapter'
    )
    with LocalRunner([spec]) as runner, pytest.raises(NodeDiedError, match='error: ') as died:
        run_to_its_end(runner)
    assert 'crazyflie_interfaces' in str(died.value)


def test_full_states_are_flown_from_engage_to_hand_back(crazyflie):
    with flight(crazyflie) as (server, controller):
        server.supervisor = 0
        controller.stay_at(0.0, 0.0, 2.0)
        controller.wait_for(lambda: 'take off' in controller.call('engage')[1], 'a refusal')
        server.supervisor = FLYING
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        assert not server.events  # the first one would be obeyed
        controller.engage()
        controller.wait_for(lambda: len(server.full_states) > 20, 'set-points')
        message = server.full_states[-1]
        assert message.pose.position.x == 0.5
        assert message.pose.position.z == 2.0
        assert message.pose.orientation.w == 1.0
        assert message.twist.linear.x == 1.0
        assert message.acc.x == pytest.approx(2.0)
        turning = message.twist.angular
        assert (turning.x, turning.y, turning.z) == (0.1, 0.2, 0.3)
        assert not server.rates
        # Its own estimate: velocity into the body, rates from orientations.
        twist = controller.odometry.twist.twist
        turned = controller.odometry.pose.pose.orientation
        yaw = 2.0 * math.atan2(turned.z, turned.w)
        assert twist.linear.x == pytest.approx(0.1 * math.cos(yaw), abs=1e-6)
        assert twist.linear.y == pytest.approx(-0.1 * math.sin(yaw), abs=1e-6)
        assert twist.angular.z == pytest.approx(0.4, abs=0.3)  # stamps of a loaded machine jitter

        controller.ahead = math.nan  # a plan that cannot be flown
        controller.go_on(0.3)
        count = len(server.full_states)
        controller.go_on(0.2)
        assert len(server.full_states) == count

        controller.ahead = 0.5
        server.events.clear()
        controller.wait_for(lambda: server.events, 'set-points')
        assert controller.call('hand_back') == (True, 'handing back')
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        names = [name for name, _ in server.events]
        assert names.count('notify_setpoints_stop') == names.count('go_to') == 2
        # Whatever was under way when it was told the first time: the last word is to stay.
        assert names[-1] != 'set-point'
        goal = next(request for name, request in server.events if name == 'go_to')
        assert (goal.goal.x, goal.goal.z, goal.relative) == (0.0, 2.0, False)
        assert goal.duration.sec == 1
        expect_rest(server, controller)


def test_it_arms_and_takes_off_where_that_is_allowed(crazyflie):
    height = {'allow_arming': True, 'take_off_height': 1.0}
    with flight(crazyflie, **height) as (server, controller):
        server.supervisor, server.z = 0, 0.0
        controller.wait_for(lambda: controller.call('take_off')[0], 'an answer')
        controller.wait_for(lambda: server.events, 'a request to arm')
        assert server.events[0][1].arm
        server.supervisor = CAN_FLY
        controller.wait_for(lambda: server.events[-1][0] == 'takeoff', 'a take-off')
        assert server.events[-1][1].height == 1.0
        server.supervisor, server.z = CAN_FLY | FLYING, 1.0
        controller.wait_for(
            lambda: any(p.value == 'in the air' for p in controller.takeover.values), 'the air'
        )
        assert not server.full_states


def test_rates_unlock_the_thrust_and_go_out_in_the_firmwares_directions(crazyflie):
    with flight(crazyflie, command='rates') as (server, controller):
        controller.wait_for(
            lambda: 'give hover_throttle' in controller.call('engage')[1], 'a refusal'
        )
    with flight(crazyflie, command='rates', hover_throttle=0.5) as (server, controller):
        controller.engage()
        controller.wait_for(lambda: len(server.rates) > 20, 'set-points')
        assert server.rates[0] == Twist()
        message = server.rates[-1]
        assert message.linear.z == pytest.approx(0.5 * 65535, rel=1e-6)
        assert message.linear.y == pytest.approx(math.degrees(0.1))
        assert message.linear.x == pytest.approx(math.degrees(0.2))
        assert message.angular.z == pytest.approx(-math.degrees(0.3))
        assert not server.full_states


def test_what_ends_it_ends_it_for_good(crazyflie):
    ends = {
        'teleoperation': 'set-points of others', 'nan': 'not finite', 'stale': 'state_timeout',
        'locked': 'locked', 'battery': 'battery_min',
    }  # fmt: skip
    with flight(crazyflie) as (server, controller):
        for what, words in ends.items():
            controller.engage()
            server.events.clear()
            if what == 'teleoperation':
                server.teleop.publish(server.crazyflie.msg.Hover(z_distance=1.0))
            elif what == 'nan':
                server.x = math.nan
            elif what == 'stale':
                server.talks = False
            elif what == 'locked':
                server.supervisor = FLYING | LOCKED
            else:
                server.voltage = 3.1

            def ended(words=words):
                return words in controller.takeover.message and controller.phase == 'waiting'

            controller.wait_for(ended, words)
            names = [name for name, _ in server.events]
            if what == 'teleoperation':  # they fly: nothing is asked for
                assert 'go_to' not in names
                assert 'another program commands it' in controller.call('engage')[1]
            else:
                assert names[-1] != 'set-point'
                assert 'go_to' in names
            server.x, server.supervisor, server.voltage = 0.0, FLYING, 4.0
            server.talks = True
            controller.wait_for(lambda: controller.phase == 'ready', 'ready')
            expect_rest(server, controller)


def test_a_silent_server_and_missing_odometry_are_said(crazyflie):
    with flight(crazyflie, vehicle='cf5') as (_, controller):
        controller.wait_for(
            lambda: 'crazyflie_server' in controller.takeover.message, 'a sentence'
        )
        assert '/cf5/status' in controller.takeover.message
