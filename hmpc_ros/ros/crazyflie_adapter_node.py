"""Node ``crazyflie_adapter``: flies a Crazyflie through the server of Crazyswarm2.

By default the plan's next state goes to `cmd_full_state`, and the firmware's own controller flies
there; with ``command: rates``, thrust and body rates go to `cmd_vel_legacy`. A Crazyflie has no
modes: set-points take control from its high-level commander, and it gets control back when the
server is told that they stop, and where to stay. Set-points of anybody else end the take-over.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Twist
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hmpc_ros.autopilots import crazyflie
from hmpc_ros.autopilots.state import BadEstimateError
from hmpc_ros.autopilots.take_off import Step
from hmpc_ros.autopilots.takeover import Phase, Request, Situation
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.plant.odometry import Four, Three
from hmpc_ros.ros.adapter import NEWEST, Adapter
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.spinning import run

SILENCE = 3.5  # s without a status, which comes once a second
OTHERS = 2.5  # s; a vehicle obeys the last set-point for 2 s at most
CLIMB_TIME = 3  # s of a take-off
HOLD_TIME = 1  # s that it takes to come to rest
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_HIGH_LEVEL, _OURS, _OTHERS = 'high-level commander', 'set-points', 'set-points of others'


def load_messages() -> tuple[Any, Any]:
    """Return messages and services of Crazyswarm2; raises ValueError where they are not."""
    try:
        from crazyflie_interfaces import msg, srv
    except ImportError as error:
        raise ValueError(
            f'the messages of Crazyswarm2 are not here ({error}): install or build its package '
            'crazyflie_interfaces, and source it'
        ) from error
    return msg, srv


class CrazyflieAdapter(Adapter):
    """Between the controller and the server of Crazyswarm2."""

    def __init__(self) -> None:
        """Open the topics; raises ValueError when Crazyswarm2's messages are not installed."""
        messages, services = load_messages()
        super().__init__(
            'crazyflie_adapter', TABLES['crazyflie_adapter'], lead=0.0, setpoints_lead=False
        )
        s = self.settings
        if s['battery_empty'] >= s['battery_full']:
            raise ValueError(
                f'battery_empty {s["battery_empty"]:g} V must be below battery_full '
                f'{s["battery_full"]:g} V'
            )
        base = s['vehicle']
        self._full_state = s['command'] == 'full_state'
        self._rates = crazyflie.TurnRates()
        self._heard_at = self._others_at = -math.inf
        self._ours = False  # whether set-points of ours are what it obeys
        self._failure, self._can_fly = '', False
        self._sent: deque[Any] = deque(maxlen=200)
        self._orientation: Four = (1.0, 0.0, 0.0, 0.0)

        def listen(name: str, message: Any, callback: Any) -> Any:
            return self.create_subscription(message, f'{base}/{name}', callback, BEST_EFFORT)

        self._odometry_of_server = listen('odom', Odometry, self._on_odometry)
        self._status_of_server = listen('status', messages.Status, self._on_vehicle_status)
        commands = {
            'cmd_full_state': messages.FullState, 'cmd_vel_legacy': Twist,
            'cmd_position': messages.Position, 'cmd_hover': messages.Hover,
            'cmd_vel_world': messages.VelocityWorld,
        }  # fmt: skip
        for name, message in commands.items():
            listen(name, message, self._on_setpoint)
        own = 'cmd_full_state' if self._full_state else 'cmd_vel_legacy'
        self._setpoint = commands[own]
        self._setpoints = self.create_publisher(commands[own], f'{base}/{own}', NEWEST)
        if self._full_state:
            self.create_subscription(
                MultiDOFJointTrajectory, 'planned_state', self._on_plan, NEWEST
            )
        self._asked_of_server = {
            name: (self.create_client(kind, f'{base}/{name}'), kind.Request)
            for name, kind in (
                ('notify_setpoints_stop', services.NotifySetpointsStop),
                ('go_to', services.GoTo),
                ('arm', services.Arm),
                ('takeoff', services.Takeoff),
            )
        }
        self.situation.silence = (
            f'nothing is heard on {self._status_of_server.topic_name}: does crazyflie_server run, '
            'is the name right (vehicle), and is the default topic status on (firmware_logging)?'
        )
        self.situation.estimate = (
            f'nothing comes on {self._odometry_of_server.topic_name}: turn on the default topic '
            'odom (firmware_logging), at 100 Hz'
        )
        self._started(f'listens to {base}, commands {self._setpoints.topic_name}')

    # -- from the server -----------------------------------------------------------------------

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state = crazyflie.state_from_odometry(message, self._rates)
        except BadEstimateError as error:
            self._bad_state_came(error)
            return
        self._orientation = state.orientation
        self._state_came(state)

    def _on_vehicle_status(self, message: Any) -> None:
        self._heard_at = time.monotonic()
        s = self.situation
        s.armed = bool(message.supervisor_info & crazyflie.FLYING)
        self._can_fly = bool(message.supervisor_info & crazyflie.CAN_FLY)
        self.voltage = message.battery_voltage if message.battery_voltage > 0.0 else math.nan
        s.battery = crazyflie.charge(
            self.voltage, self.settings['battery_empty'], self.settings['battery_full']
        )
        self._failure = crazyflie.failure(message.supervisor_info, message.pm_state)
        s.failsafe = bool(self._failure)
        self._update()

    def _on_setpoint(self, message: Any) -> None:
        """Notice what others command: of our own, each comes back once."""
        if message in self._sent:
            while self._sent.popleft() != message:
                pass
        else:
            self._others_at = time.monotonic()
            self._update()

    def _look(self) -> None:
        s, now = self.situation, time.monotonic()
        s.connected = now - self._heard_at < SILENCE
        others = now - self._others_at < OTHERS
        in_control = self.takeover.phase not in (Phase.WAITING, Phase.READY)
        self._ours = self._ours and in_control and not others
        # Commanded by others, it must not be engaged; taken over by others, it is let go.
        s.external = self._ours or (others and not in_control)
        words = _OURS if self._ours else _OTHERS if others else _HIGH_LEVEL
        s.mode = f'{words} ({self._failure})' if self._failure else words
        if self._full_state:
            s.thrust = ''  # the firmware's own controller finds it
        elif not self.settings['hover_throttle']:
            s.thrust = 'a Crazyflie does not tell its thrust: give hover_throttle, of 65535'
        if not self._setpoints.get_subscription_count():
            s.thrust = f'the server does not read {self._setpoints.topic_name}'

    # -- to the server -------------------------------------------------------------------------

    def _on_plan(self, message: MultiDOFJointTrajectory) -> None:
        """Send the plan's next state on."""
        stamp, now = nanoseconds(message.header.stamp), time.monotonic()
        if not (self._steps.answers(stamp, now) and self._orders.setpoints and self._ours):
            return
        if not crazyflie.is_finite(message.points[0]):
            self.get_logger().error('a plan cannot be flown', throttle_duration_sec=2.0)
            return
        setpoint = self._setpoint()
        setpoint.header = message.header
        crazyflie.set_full_state(setpoint, message.points[0])
        self._publish(setpoint)

    def _on_command(self, message: Any) -> None:
        if not self._full_state:
            super()._on_command(message)

    def _send(self, throttle: float, rates: Three) -> None:
        if self._ours:
            setpoint = Twist()
            crazyflie.set_rates(setpoint, rates, throttle)
            self._publish(setpoint)

    def _publish(self, setpoint: Any) -> None:
        self._sent.append(setpoint)
        self._setpoints.publish(setpoint)

    def _request(self, request: Request) -> None:
        if request is Request.TAKE:
            self._ours = True
            if not self._full_state:
                self._publish(Twist())  # the firmware takes no thrust before it has seen a zero
            return
        # Until it can be told, the last set-point would be obeyed, and then none: fly on.
        clients = [self._asked_of_server[n][0] for n in ('notify_setpoints_stop', 'go_to')]
        missing = [client.srv_name for client in clients if not client.service_is_ready()]
        if missing:
            self.get_logger().error(f'the server offers no {", ".join(missing)}')
            return
        self._ours = False
        # A set-point that is still under way would take control again: once the server has
        # answered, it is told a second time.
        self._stay().add_done_callback(lambda _done: self._stay())

    def _take_off_steps(self, height: float) -> Sequence[Step]:
        def arm() -> None:
            self._call('arm', arm=True)

        def take_off() -> None:
            self._call('takeoff', height=height, duration=Duration(sec=CLIMB_TIME))

        def flies(s: Situation) -> bool:
            return s.armed and s.position is not None and s.position[2] > 0.9 * height

        return (
            Step('armed motors', arm, lambda _s: self._can_fly, (_HIGH_LEVEL,)),
            Step('its height', take_off, flies, (_HIGH_LEVEL,), 5.0 * CLIMB_TIME),
        )

    def _stay(self) -> Any:
        """Tell the server that set-points stop, and the vehicle to stay where it is."""
        x, y, z = self.situation.position or (0.0, 0.0, 0.0)
        self._call('notify_setpoints_stop', remain_valid_millisecs=100)
        return self._call(
            'go_to',
            goal=Point(x=x, y=y, z=z),
            yaw=crazyflie.yaw(self._orientation),
            duration=Duration(sec=HOLD_TIME),
        )

    def _call(self, name: str, **fields: Any) -> Any:
        client, kind = self._asked_of_server[name]
        return client.call_async(kind(**fields))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(CrazyflieAdapter, args)


if __name__ == '__main__':
    raise SystemExit(main())
