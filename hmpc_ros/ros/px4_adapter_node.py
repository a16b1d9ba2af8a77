"""Node ``px4_adapter``: flies PX4 over uXRCE-DDS.

PX4 leaves offboard when its heartbeat (OffboardControlMode) stops, and not when set-points stop: it
is sent for a good step alone, so that PX4 fails over with whatever fails here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy

from hmpc_ros.autopilots import px4
from hmpc_ros.autopilots.state import BadEstimateError
from hmpc_ros.autopilots.take_off import Step
from hmpc_ros.autopilots.takeover import Request
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.plant.odometry import Three
from hmpc_ros.ros.adapter import PATIENCE, Adapter
from hmpc_ros.ros.spinning import run

LEAD = 1.0  # s; PX4 wants heartbeats before it goes to offboard
CLIMB = 60.0  # s to get to the height of a take-off
SILENCE = 3.0  # s without a word, and PX4 is gone
HEARTBEAT_PERIOD = 0.05  # s; PX4 wants more than 2 Hz
ONBOARD_COMPUTER = 191  # MAV_COMP_ID
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def load_messages() -> Any:
    """Return the messages of PX4; raises ValueError with a sentence where they are not."""
    try:
        from px4_msgs import msg
    except ImportError as error:
        raise ValueError(
            f'the messages of PX4 are not here ({error}): build the package px4_msgs, from the '
            "branch of PX4's release (such as release/1.17), in a workspace, and source it"
        ) from error
    return msg


class Px4Adapter(Adapter):
    """Between the controller and PX4."""

    def __init__(self) -> None:
        """Open the topics; raises ValueError when PX4's messages are not installed."""
        messages = load_messages()
        super().__init__('px4_adapter', TABLES['px4_adapter'], LEAD, setpoints_lead=False)
        self._heard_at = -math.inf
        self._beat_at = -math.inf
        self._began = time.monotonic()
        self._stamp_of_px4 = 0.0  # of the last state [s]
        self._why_silent = ''
        self._looked_at = 0.0

        def listen(name: str, message: Any, callback: Any) -> str:
            wanted = px4.topic(self.settings['fmu'], 'out', name, message)
            return str(self.create_subscription(message, wanted, callback, BEST_EFFORT).topic_name)

        def tell(name: str, message: Any) -> Any:
            wanted = px4.topic(self.settings['fmu'], 'in', name, message)
            return self.create_publisher(message, wanted, BEST_EFFORT)

        self._needed = {
            'odometry': listen('vehicle_odometry', messages.VehicleOdometry, self._on_odometry),
            'status': listen('vehicle_status', messages.VehicleStatus, self._on_status),
        }
        listen('battery_status', messages.BatteryStatus, self._on_battery)
        listen('vehicle_command_ack', messages.VehicleCommandAck, self._on_acknowledgement)
        listen('hover_thrust_estimate', messages.HoverThrustEstimate, self._on_hover_thrust)
        self._heard: set[str] = set()
        self._modes = tell('offboard_control_mode', messages.OffboardControlMode)
        self._rates = tell('vehicle_rates_setpoint', messages.VehicleRatesSetpoint)
        self._commands = tell('vehicle_command', messages.VehicleCommand)
        self._mode = messages.OffboardControlMode(body_rate=True)
        self._setpoint = messages.VehicleRatesSetpoint()
        self._command = messages.VehicleCommand
        self._started(f'listens to PX4 on {", ".join(self._needed.values())}')

    def _now_of_px4(self) -> int:
        """Return the time by the clock that PX4's messages are stamped by [us]."""
        return round(1e6 * (self._stamp_of_px4 + time.monotonic() - self._state_at))

    # -- from PX4 ------------------------------------------------------------------------------

    def _on_odometry(self, message: Any) -> None:
        self._heard.add('odometry')
        try:
            state = px4.state_from_odometry(message)
        except BadEstimateError as error:
            self._bad_state_came(error)
            return
        self._stamp_of_px4 = state.stamp
        self._state_came(state)

    def _on_status(self, message: Any) -> None:
        self._heard.add('status')
        self._heard_at = time.monotonic()
        s = self.situation
        s.mode, s.external = px4.mode(message.nav_state)
        s.armed, s.failsafe = message.arming_state == px4.ARMED, bool(message.failsafe)
        self._update()

    def _on_battery(self, message: Any) -> None:
        left, voltage = message.remaining, message.voltage_v
        self.situation.battery = left if 0.0 <= left <= 1.0 else math.nan
        self.voltage = voltage if voltage > 0.0 else math.nan

    def _on_acknowledgement(self, message: Any) -> None:
        if message.command == px4.SET_MODE and message.result != 0:
            self.get_logger().warning(
                f'PX4 refused to change its mode (result {message.result}): its own console or '
                'ground station says why',
                throttle_duration_sec=1.0,
            )

    def _on_hover_thrust(self, message: Any) -> None:
        if message.valid:
            self._hover_estimate_came(message.hover_thrust)

    def _look(self) -> None:
        s, now = self.situation, time.monotonic()
        missing = [topic for what, topic in self._needed.items() if what not in self._heard]
        s.connected = now - self._heard_at < SILENCE
        if missing and now - self._began > PATIENCE / 2 and now - self._looked_at > 1.0:
            self._looked_at = now
            published = [
                name
                for name, _ in self.get_topic_names_and_types()
                if self.count_publishers(name) > 0
            ]
            self._why_silent = px4.stale(missing[0], published)
        if missing and self._why_silent:
            s.silence = s.estimate = self._why_silent
        elif s.connected and not self._rates.get_subscription_count():
            s.thrust = f'PX4 does not read {self._rates.topic_name}: is the agent running?'

    # -- to PX4 --------------------------------------------------------------------------------

    def _send(self, throttle: float, rates: Three) -> None:
        self._setpoint.timestamp = self._now_of_px4()
        px4.set_rates(self._setpoint, rates, throttle)
        self._rates.publish(self._setpoint)

    def _send_heartbeat(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= HEARTBEAT_PERIOD:
            self._beat_at = now
            self._mode.timestamp = self._now_of_px4()
            self._modes.publish(self._mode)

    def _take_off_steps(self, _height: float) -> Sequence[Step]:
        def take_off() -> None:
            self._order(px4.SET_MODE, *px4.TAKE_OFF)

        def arm() -> None:
            self._order(px4.ARM, 1.0)

        def nothing() -> None:
            pass

        modes = ('takeoff',)
        return (
            Step('take-off mode', take_off, lambda s: s.mode == 'takeoff', modes),
            Step('armed motors', arm, lambda s: s.armed, modes),
            Step('hold at its height', nothing, lambda s: s.mode == 'hold', modes, CLIMB),
        )

    def _request(self, request: Request) -> None:
        self._order(px4.SET_MODE, *px4.mode_parameters(request))

    def _order(self, command: int, one: float, two: float = 0.0, three: float = 0.0) -> None:
        system = self.settings['system']
        self._commands.publish(
            self._command(
                timestamp=self._now_of_px4(), command=command, param1=one, param2=two,
                param3=three, target_system=system, target_component=1, source_system=system,
                source_component=ONBOARD_COMPUTER, from_external=True,
            )
        )  # fmt: skip


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(Px4Adapter, args)


if __name__ == '__main__':
    raise SystemExit(main())
