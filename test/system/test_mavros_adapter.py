"""The MAVROS adapter as a process: real DDS, messages with MAVROS' fields, a scripted MAVROS."""

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
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from scripted_autopilot import LATCHED, ScriptedController, run_to_its_end
from sensor_msgs.msg import BatteryState

from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.runner import LocalRunner, NodeDiedError

pytestmark = pytest.mark.system

BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope='module')
def mavros():
    """Return the built package, importable here and in the processes that are started."""
    with message_packages.built(message_packages.MAVROS):
        import mavros_msgs.msg
        import mavros_msgs.srv

        yield mavros_msgs


class ScriptedMavros:
    """MAVROS over an autopilot that holds still and changes its mode when asked."""

    def __init__(self, controller: ScriptedController, mavros):
        self.node, self.mavros = controller.node, mavros
        self.mode, self.connected = 'POSCTL', True
        self.x = 0.0
        self.setpoints: list = []
        self.modes: list = []
        node = self.node
        self._odometry = node.create_publisher(Odometry, 'mavros/local_position/odom', BEST_EFFORT)
        self._state = node.create_publisher(mavros.msg.State, 'mavros/state', LATCHED)
        self._battery = node.create_publisher(BatteryState, 'mavros/battery', BEST_EFFORT)
        target = mavros.msg.AttitudeTarget
        self._target = node.create_publisher(
            target, 'mavros/setpoint_raw/target_attitude', BEST_EFFORT
        )
        node.create_subscription(
            target, 'mavros/setpoint_raw/attitude', self.setpoints.append, BEST_EFFORT
        )
        node.create_service(mavros.srv.SetMode, 'mavros/set_mode', self._on_mode)
        self._turn = 0
        node.create_timer(0.01, self._tell)

    def _tell(self):
        message = Odometry()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id, message.child_frame_id = 'map', 'base_link'
        at = message.pose.pose.position
        at.x, at.z = self.x, 2.0
        message.twist.twist.angular.y = 0.2
        self._odometry.publish(message)
        if self._turn % 10 == 0:
            self._state.publish(
                self.mavros.msg.State(
                    connected=self.connected, armed=True, mode=self.mode, system_status=4
                )
            )
            self._battery.publish(BatteryState(percentage=0.8, voltage=15.8))
            self._target.publish(self.mavros.msg.AttitudeTarget(thrust=0.4))
        self._turn += 1

    def _on_mode(self, request, response):
        self.modes.append(request.custom_mode)
        self.mode = request.custom_mode
        response.mode_sent = True
        return response


@contextlib.contextmanager
def flight(mavros, **parameters):
    spec = NodeSpec(
        executable='mavros_adapter',
        module='hmpc_ros.ros.mavros_adapter_node',
        name='mavros_adapter',
        parameters={
            'max_latency': 1.0, 'solve_timeout': 1.0, 'state_timeout': 1.0, **parameters,
        },
    )  # fmt: skip
    with LocalRunner([spec]) as runner:
        controller = ScriptedController(runner, 'mavros_adapter')
        try:
            yield ScriptedMavros(controller, mavros), controller
        finally:
            controller.close()


def test_a_missing_package_ends_the_process_with_a_sentence():
    if importlib.util.find_spec('mavros_msgs') is not None:
        pytest.skip('mavros_msgs is installed here')
    spec = NodeSpec('mavros_adapter', 'hmpc_ros.ros.mavros_adapter_node', 'mavros_adapter')
    with LocalRunner([spec]) as runner, pytest.raises(NodeDiedError, match='error: ') as died:
        run_to_its_end(runner)
    assert 'install the package mavros_msgs' in str(died.value)


@pytest.mark.parametrize(
    ('autopilot', 'take', 'hold'),
    [('px4', 'OFFBOARD', 'AUTO.LOITER'), ('ardupilot', 'GUIDED', 'LOITER')],
)
def test_it_flies_from_engage_to_hand_back(mavros, autopilot, take, hold):
    with flight(mavros, autopilot=autopilot) as (peer, controller):
        peer.connected = False
        controller.wait_for(lambda: 'fcu_url' in controller.call('engage')[1], 'a refusal')
        peer.connected = True
        controller.engage()
        assert peer.modes == [take]
        message = peer.setpoints[-1]
        assert message.type_mask == 128
        rates = message.body_rate
        assert (rates.x, rates.y, rates.z) == pytest.approx((0.1, 0.2, 0.3))  # MAVROS turns them
        assert message.thrust == pytest.approx(0.4, abs=1e-3)  # of the hover that was measured
        odometry = controller.odometry
        assert odometry.pose.pose.position.z == 2.0
        assert odometry.twist.twist.angular.y == pytest.approx(0.2)

        assert controller.call('hand_back') == (True, 'handing back')
        controller.wait_for(lambda: peer.mode == hold, 'hold')
        controller.wait_for(lambda: controller.phase == 'ready', 'ready')
        controller.go_on(0.3)  # what is still under way
        counts = len(peer.setpoints), len(peer.modes)
        controller.go_on(1.5)
        assert counts == (len(peer.setpoints), len(peer.modes))


def test_lost_solves_nan_and_the_pilot_end_it(mavros):
    with flight(mavros) as (peer, controller):
        for what in ('solves', 'nan', 'pilot'):
            controller.engage()
            if what == 'solves':
                controller.solves = False
            elif what == 'nan':
                peer.x = math.nan
            else:
                peer.mode = 'ALTCTL'
            word = {'solves': 'no good solve', 'nan': 'not finite', 'pilot': 'ALTCTL'}[what]
            controller.wait_for(lambda: word in controller.takeover.message, word)  # noqa: B023
            if what != 'pilot':
                controller.wait_for(lambda: peer.mode == 'AUTO.LOITER', 'hold')
            controller.solves, peer.x = True, 0.0
            controller.wait_for(lambda: controller.phase == 'ready', 'ready')
            controller.go_on(0.3)  # what is still under way
            sent = len(peer.setpoints)
            controller.go_on(0.5)
            assert len(peer.setpoints) == sent
