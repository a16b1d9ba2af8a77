"""What every node between the controller and an autopilot has in common.

    autopilot -> `odom` -> controller -> `rates_command` -> autopilot

The adapter turns the autopilot's state into odometry and, while it has taken over, the controller's
commands into set-points. When that is, `hmpc_ros.autopilots.takeover` decides; services
``~/engage`` and ``~/hand_back`` ask for it, and ``~/takeover`` (latched) and ``/diagnostics`` tell
how it stands. A step is good when the controller's ``estimates``, which it publishes for solved
steps alone, carry the stamp of a state that was sent a moment ago; a command that answers no such
state is never sent on.
"""

from __future__ import annotations

import bisect
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.autopilots.clock import AutopilotClock
from hmpc_ros.autopilots.state import BadEstimateError, VehicleState
from hmpc_ros.autopilots.steps import Steps
from hmpc_ros.autopilots.take_off import Step, TakeOff
from hmpc_ros.autopilots.takeover import Gates, Orders, Phase, Request, Situation, TakeOver
from hmpc_ros.autopilots.thrust import HoverMeasurement, ThrustMap
from hmpc_ros.configuration.schema import Parameter
from hmpc_ros.plant.odometry import Three
from hmpc_ros.ros.conversions import NANOSECONDS, nanoseconds, set_stamp
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.spinning import tell_start

TICK = 0.02  # s between two looks at the bounds
DIAGNOSTICS_PERIOD = 1.0  # s
PATIENCE = 4.0  # s; after it, what is waited for is said
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

_NO_THRUST = (
    'the hover throttle is not known yet: let the autopilot hover for some seconds in a mode of '
    'its own, or give hover_throttle'
)


def gates(values: Mapping[str, Any]) -> Gates:
    """Return the bounds that parameters say; raises ValueError when they do not fit together."""
    return Gates(**{field.name: values[field.name] for field in fields(Gates)})


class Adapter(Node):
    """Between the controller and an autopilot; a subclass speaks the autopilot's protocol.

    It calls `_state_came`, `_bad_state_came` and `_hover_throttle_came`, keeps what it hears in
    ``situation``, and sends what the methods under "to the autopilot" say.

    Args:
        name: of the node.
        table: its parameters.
        lead: time that set-points are sent before the autopilot is asked to obey them [s].
        setpoints_lead: whether they are, or only the heartbeat.
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, Parameter],
        lead: float,
        setpoints_lead: bool = True,
    ) -> None:
        self._open = False
        super().__init__(name, start_parameter_services=False)
        self.settings = NodeParameters(self, table, gates, lambda _gates: None)
        s = self.settings
        self.situation = Situation(estimate='the autopilot has told no state yet')
        self.voltage = math.nan
        self.takeover = TakeOver(s.prepared, lead, setpoints_lead)
        self._orders = Orders()
        self._steps = Steps(s['max_latency'], s.prepared.solve_timeout)
        self._clock_of_autopilot = AutopilotClock()
        self._hover = HoverMeasurement()
        self._thrust: ThrustMap | None = None
        if s['hover_throttle'] > 0:
            voltage = s['hover_voltage'] or math.nan
            self._thrust = ThrustMap(s['hover_throttle'], voltage, s['voltage_exponent'])
        self._state_at = -math.inf
        self._stamp = 0  # of the last odometry [ns]
        self._reference: tuple[list[int], list[Three]] = ([], [])
        self._told: tuple[Phase, str] | None = None
        self._take_off: TakeOff | None = None
        self._asked_for = ('', time.monotonic())  # what is waited for, and since when
        self._odometry = Odometry()
        self._odometry.header.frame_id = s['frame_id']
        self._odometry.child_frame_id = s['child_frame_id']

        self._publisher = self.create_publisher(Odometry, 'odom', NEWEST)
        self._takeover_publisher = self.create_publisher(DiagnosticStatus, '~/takeover', LATCHED)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_subscription(TwistStamped, 'rates_command', self._on_command, NEWEST)
        self.create_subscription(JointState, 'estimates', self._on_estimates, NEWEST)
        self.create_subscription(Path, 'reference_path', self._on_reference, LATCHED)
        self.create_service(Trigger, '~/engage', self._on_engage)
        self.create_service(Trigger, '~/hand_back', self._on_hand_back)
        self.create_service(Trigger, '~/take_off', self._on_take_off)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK, self._on_tick, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD, self._tell_diagnostics, clock=steady)

    def _started(self, words: str) -> None:
        """Say that all is open; to be called at the end of a subclass's ``__init__``."""
        self._open = True
        tell_start(self, words, ('odom', 'rates_command', 'estimates', 'reference_path'))

    def destroy_node(self) -> None:
        """Give control back, as far as one word can, and end."""
        in_control = (Phase.ENGAGING, Phase.TAKEN_OVER, Phase.HANDING_BACK)
        if self._open and self.takeover.phase in in_control:
            self._request(Request.HOLD)
            self.get_logger().warning('ends while it had control: asked the autopilot to hold')
        super().destroy_node()

    # -- to the autopilot ----------------------------------------------------------------------

    def _send(self, throttle: float, rates: Three) -> None:
        """Command a throttle from 0 to 1 and body rates (FLU) [rad/s]."""
        raise NotImplementedError

    def _send_heartbeat(self) -> None:
        """Say that the last step was good; nothing where the set-points say it."""

    def _request(self, request: Request) -> None:
        """Ask for a mode."""
        raise NotImplementedError

    def _take_off_steps(self, _height: float) -> Sequence[Step]:
        """Return what arms the vehicle and lifts it [m]; empty: this adapter does not."""
        return ()

    def _look(self) -> None:
        """Bring ``situation`` up to date; called at every tick."""

    # -- from the autopilot --------------------------------------------------------------------

    def _state_came(self, state: VehicleState) -> None:
        """Publish a state of the autopilot and take it in."""
        now = time.monotonic()
        situation = self.situation
        if state.resets != situation.resets and situation.position is not None:
            self.get_logger().warning('the estimator was reset: its frame has moved')
        arrival = 1e-9 * self.get_clock().now().nanoseconds
        stamp = round(NANOSECONDS * self._clock_of_autopilot.time(state.stamp, arrival))
        self._stamp = stamp
        situation.estimate = ''
        situation.position, situation.velocity = state.position, state.world_velocity
        situation.tilt, situation.resets = state.tilt, state.resets
        situation.distance = self._distance(state.position)
        self._state_at = now
        message = self._odometry
        set_stamp(message.header.stamp, stamp)
        pose, twist = message.pose.pose, message.twist.twist
        at, turned = pose.position, pose.orientation
        at.x, at.y, at.z = state.position
        turned.w, turned.x, turned.y, turned.z = state.orientation
        twist.linear.x, twist.linear.y, twist.linear.z = state.velocity
        twist.angular.x, twist.angular.y, twist.angular.z = state.rates
        self._steps.sent(stamp, now)
        self._publisher.publish(message)

    def _bad_state_came(self, error: BadEstimateError) -> None:
        """Take in that the autopilot knows no state."""
        self.situation.estimate = str(error)

    def _hover_throttle_came(self, throttle: float) -> None:
        """Take in what the autopilot commands while it flies by itself."""
        s = self.situation
        if self.settings['hover_throttle'] > 0 or s.external:
            return
        if not s.armed:  # another flight: another battery, or another load
            self._thrust = None
        # Motors that idle on the ground are no hover.
        if not s.armed or s.position is None or s.position[2] < self.takeover.gates.fence_low[2]:
            self._hover = HoverMeasurement()
            return
        speed = math.hypot(*s.velocity)
        self._hover.add(time.monotonic(), throttle, speed, s.tilt, self.voltage)
        measured = self._hover.result(self.settings['voltage_exponent'])
        if measured is not None:
            if self._thrust is None:
                self.get_logger().info(f'measured a hover throttle of {measured.hover:.3f}')
            self._thrust = measured

    def _hover_estimate_came(self, throttle: float) -> None:
        """Take in the autopilot's own estimate of the hover throttle."""
        if not (self.settings['hover_throttle'] > 0 or self.situation.external):
            self._thrust = ThrustMap(throttle, self.voltage, self.settings['voltage_exponent'])

    def _distance(self, position: Three) -> float:
        """Return the distance to where the reference is now [m]; NaN where that is unknown."""
        stamps, places = self._reference
        if not stamps:
            return math.nan
        k = bisect.bisect_right(stamps, self._stamp)
        # Only so much of a long reference is told; one that ends at rest stays there.
        if k == len(stamps) and len(places) > 1 and math.dist(places[-1], places[-2]) > 1e-3:
            return math.nan
        return math.dist(position, places[max(k - 1, 0)])

    # -- from the controller -------------------------------------------------------------------

    def _on_command(self, message: TwistStamped) -> None:
        stamp, now = nanoseconds(message.header.stamp), time.monotonic()
        if not (self._steps.answers(stamp, now) and self._orders.setpoints):
            return
        angular = message.twist.angular
        values = (message.twist.linear.z, angular.x, angular.y, angular.z)
        if self._thrust is None or not all(map(math.isfinite, values)):
            self.get_logger().error(
                f'a command cannot be flown: {values}', throttle_duration_sec=2.0
            )
            return
        self._send(self._thrust.throttle(values[0], self.voltage), values[1:])

    def _on_estimates(self, message: JointState) -> None:
        if self._steps.solved(nanoseconds(message.header.stamp), time.monotonic()):
            self._update()
            if self._orders.heartbeat:
                self._send_heartbeat()

    def _on_reference(self, message: Path) -> None:
        self._reference = (
            [nanoseconds(pose.header.stamp) for pose in message.poses],
            [
                (pose.pose.position.x, pose.pose.position.y, pose.pose.position.z)
                for pose in message.poses
            ],
        )

    # -- the take-over -------------------------------------------------------------------------

    def _on_engage(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        refusal = self.takeover.engage(self._seen())
        response.success, response.message = not refusal, refusal or 'engaging'
        if refusal:
            self.get_logger().warning(f'does not engage: {refusal}')
        self._update()
        return response

    def _on_hand_back(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        refusal = self.takeover.hand_back(self._seen())
        response.success, response.message = not refusal, refusal or 'handing back'
        self._update()
        return response

    def _on_take_off(self, _request: Trigger.Request, response: Trigger.Response) -> Any:
        situation = self._seen()
        steps = self._take_off_steps(self.settings['take_off_height'])
        refusal = self._why_no_take_off(situation, steps)
        response.success, response.message = not refusal, refusal or 'taking off'
        if not refusal:
            self._take_off = TakeOff(steps, situation)
        self.get_logger().warning(f'take-off: {response.message}')
        return response

    def _why_no_take_off(self, s: Situation, steps: Sequence[Step]) -> str:
        """Say why it would not arm and take off now; empty: it would."""
        least = self.takeover.gates.battery_min
        checks = (
            (
                not self.settings['allow_arming'],
                "allow_arming is false: arming and take-off are the pilot's",
            ),
            (not steps, 'this adapter neither arms nor takes off: the pilot does'),
            (not s.connected, s.silence),
            (s.position is None or bool(s.estimate), s.estimate),
            (s.armed, 'the vehicle is armed already'),
            (s.failsafe, f'the autopilot tells a failsafe, in {s.mode}'),
            (
                least > 0 and not s.battery >= least,
                f'the battery has {100 * s.battery:.0f} % left, battery_min is {100 * least:.0f} %',
            ),
        )
        return next((text for closed, text in checks if closed), '')

    def _seen(self) -> Situation:
        """Return the situation of this instant."""
        now = time.monotonic()
        s = self.situation
        s.time = now
        s.state_age = now - self._state_at
        s.good_age, s.good_steps = self._steps.age(now), self._steps.count(now)
        s.thrust = '' if self._thrust is not None else _NO_THRUST
        self._look()
        return s

    def _on_tick(self) -> None:
        self._update()
        if self._take_off is not None and self._take_off.running:
            self._take_off.update(self.situation)
            self.get_logger().info(f'take-off: {self._take_off.words}', throttle_duration_sec=1.0)
        self._complain()

    def _update(self) -> None:
        """See how things stand, and do what is to be done about it."""
        self._orders = self.takeover.update(self._seen())
        if self._orders.request is not None:
            self._request(self._orders.request)
        takeover = self.takeover
        if self._told is None or self._told[0] is not takeover.phase:
            self._told = (takeover.phase, takeover.why)
            text = self._words()
            if takeover.phase is Phase.HANDING_BACK:
                self.get_logger().warning(text)
            else:
                self.get_logger().info(text)
            self._takeover_publisher.publish(self._status())

    def _complain(self) -> None:
        """Say what is waited for, once it has been waited for long enough, and when it changes."""
        refusals = self.takeover.refusals
        if self.takeover.phase is not Phase.WAITING or not refusals:
            self._asked_for = ('', time.monotonic())
            return
        now = time.monotonic()
        what = re.sub(r'[\d.]+', '', refusals[0])
        asked, since = self._asked_for
        if what != asked and now - since >= PATIENCE:
            self.get_logger().warning(f'not ready to engage: {refusals[0]}')
            self._asked_for = (what, now)

    def _words(self) -> str:
        """Say where it stands, and what came before."""
        takeover = self.takeover
        if takeover.phase is Phase.READY:
            return f'ready to engage; before: {takeover.why}'
        if takeover.phase is Phase.WAITING and takeover.refusals:
            return f'waiting: {takeover.refusals[0]}; before: {takeover.why}'
        return f'{takeover.phase.value}: {takeover.why}'

    def _status(self) -> DiagnosticStatus:
        takeover = self.takeover
        ok = takeover.phase is not Phase.HANDING_BACK
        s = self.situation
        values = {
            'phase': takeover.phase.value,
            'why': takeover.why,
            'refusals': '; '.join(takeover.refusals),
            'connected': str(s.connected).lower(),
            'mode': s.mode,
            'armed': str(s.armed).lower(),
            'state age [s]': f'{s.state_age:.3f}',
            'good step age [s]': f'{s.good_age:.3f}',
            'latency [s]': f'{self._steps.latency:.4f}',
            'late answers': str(self._steps.late),
            'foreign commands': str(self._steps.foreign),
            'position [m]': ' '.join(f'{each:.2f}' for each in s.position or ()) or 'unknown',
            'distance to reference [m]': f'{s.distance:.3f}',
            'battery': f'{s.battery:.2f}',
            'battery voltage [V]': f'{self.voltage:.2f}',
            'clock round trip [s]': f'{self._clock_of_autopilot.round_trip:.4f}',
            'take-off': 'none' if self._take_off is None else self._take_off.words,
            'hover throttle': 'unknown' if self._thrust is None else f'{self._thrust.hover:.3f}',
        }
        if self._thrust is not None:
            values['voltage compensation'] = f'{self._thrust.compensation(self.voltage):.3f}'
        return DiagnosticStatus(
            level=DiagnosticStatus.OK if ok else DiagnosticStatus.WARN,
            name=f'{self.get_fully_qualified_name().lstrip("/")}: take-over',
            message=self._words(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _tell_diagnostics(self) -> None:
        status = self._status()
        self._takeover_publisher.publish(status)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)
