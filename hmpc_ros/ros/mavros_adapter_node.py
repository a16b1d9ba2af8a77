"""Node ``mavros_adapter``: flies PX4 or ArduPilot through MAVROS.

MAVROS turns frames itself: its odometry is in ENU and FLU, and so are the rates that it takes. As
over MAVLink, set-points are the heartbeat.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import BatteryState

from hmpc_ros.autopilots.state import BadEstimateError, from_enu
from hmpc_ros.autopilots.takeover import Request
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.plant.odometry import Three
from hmpc_ros.ros.adapter import Adapter
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.spinning import run

LEAD = 1.0  # s; PX4 wants set-points before it goes to offboard
SILENCE = 3.0  # s without a word of MAVROS
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_IGNORE_ATTITUDE = 128  # of AttitudeTarget.type_mask
_CRITICAL = (5, 6)  # MAV_STATE: critical, emergency
#: By autopilot: the modes to take control and to hold, as MAVROS names them.
MODES = {
    'px4': {Request.TAKE: 'OFFBOARD', Request.HOLD: 'AUTO.LOITER'},
    'ardupilot': {Request.TAKE: 'GUIDED', Request.HOLD: 'LOITER'},
}


def load_messages() -> tuple[Any, Any]:
    """Return messages and services of MAVROS; raises ValueError where they are not."""
    try:
        from mavros_msgs import msg, srv
    except ImportError as error:
        raise ValueError(
            f'the messages of MAVROS are not here ({error}): install the package mavros_msgs'
        ) from error
    return msg, srv


class MavrosAdapter(Adapter):
    """Between the controller and MAVROS."""

    def __init__(self) -> None:
        """Open the topics; raises ValueError when the messages of MAVROS are not installed."""
        messages, services = load_messages()
        super().__init__('mavros_adapter', TABLES['mavros_adapter'], LEAD)
        base = self.settings['mavros']
        self._modes = MODES[self.settings['autopilot']]
        self._heard_at = -math.inf
        self._linked = False

        def listen(name: str, message: Any, callback: Any) -> None:
            self.create_subscription(message, f'{base}/{name}', callback, BEST_EFFORT)

        listen('state', messages.State, self._on_state)
        listen('local_position/odom', Odometry, self._on_odometry)
        listen('battery', BatteryState, self._on_battery)
        target = messages.AttitudeTarget
        listen('setpoint_raw/target_attitude', target, self._on_target)
        self._setpoint = target(type_mask=_IGNORE_ATTITUDE)
        self._setpoints = self.create_publisher(
            target, f'{base}/setpoint_raw/attitude', BEST_EFFORT
        )
        self._mode_type = services.SetMode
        self._mode_client = self.create_client(services.SetMode, f'{base}/set_mode')
        self._started(f'listens to MAVROS on {base}')

    # -- from MAVROS ---------------------------------------------------------------------------

    def _on_state(self, message: Any) -> None:
        self._heard_at, self._linked = time.monotonic(), message.connected
        s = self.situation
        s.mode, s.external = message.mode, message.mode == self._modes[Request.TAKE]
        s.armed, s.failsafe = message.armed, message.system_status in _CRITICAL
        self._update()

    def _on_odometry(self, message: Odometry) -> None:
        pose, twist = message.pose.pose, message.twist.twist
        at, turned = pose.position, pose.orientation
        try:
            state = from_enu(
                1e-9 * nanoseconds(message.header.stamp),
                (at.x, at.y, at.z),
                (turned.w, turned.x, turned.y, turned.z),
                (twist.linear.x, twist.linear.y, twist.linear.z),
                (twist.angular.x, twist.angular.y, twist.angular.z),
            )
        except BadEstimateError as error:
            self._bad_state_came(error)
        else:
            self._state_came(state)

    def _on_battery(self, message: BatteryState) -> None:
        left, voltage = message.percentage, message.voltage
        self.situation.battery = left if 0.0 <= left <= 1.0 else math.nan
        self.voltage = voltage if voltage > 0.0 else math.nan

    def _on_target(self, message: Any) -> None:
        self._hover_throttle_came(message.thrust)

    def _look(self) -> None:
        s = self.situation
        heard = time.monotonic() - self._heard_at < SILENCE
        s.connected = heard and self._linked
        s.silence = (
            'MAVROS runs, but hears no autopilot: is its fcu_url right?'
            if heard
            else f'nothing is heard of MAVROS on {self.settings["mavros"]}/state: does it run, '
            'with the same ROS_DOMAIN_ID?'
        )
        if s.connected and not self._setpoints.get_subscription_count():
            s.thrust = f'MAVROS does not read {self._setpoints.topic_name}: load setpoint_raw'

    # -- to MAVROS -----------------------------------------------------------------------------

    def _send(self, throttle: float, rates: Three) -> None:
        message = self._setpoint
        message.header.stamp = self.get_clock().now().to_msg()
        turning = message.body_rate
        turning.x, turning.y, turning.z = rates
        message.thrust = throttle
        self._setpoints.publish(message)

    def _request(self, request: Request) -> None:
        wanted = self._modes[request]
        if not self._mode_client.service_is_ready():
            self.get_logger().error(
                f'cannot ask for {wanted}: MAVROS offers no {self._mode_client.srv_name}'
            )
            return
        future = self._mode_client.call_async(self._mode_type.Request(custom_mode=wanted))
        future.add_done_callback(lambda done: self._on_answer(wanted, done))

    def _on_answer(self, wanted: str, done: Any) -> None:
        if done.cancelled() or done.exception() is not None or not done.result().mode_sent:
            self.get_logger().warning(f'MAVROS did not send the request for {wanted}')


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(MavrosAdapter, args)


if __name__ == '__main__':
    raise SystemExit(main())
