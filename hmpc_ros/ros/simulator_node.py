"""Node ``simulator``: the simulated vehicle behind ``odom`` and its command's topic.

Which vehicle, and with it which command, ``backend`` says.

Two paces, set by ``real_time_factor``:

* 0, *lockstep*: publish a state, wait for the command with the same stamp, step. As fast as the
  controller answers; the flight does not depend on timing at all.
* positive, *paced*: step at the pace of the wall clock with the last command that came. A flight
  begins with the answer to its first state: a first solve may take longer than a step.

Commands that answer no state, which a controller sends when states stop coming, are flown at the
pace of the clock only, and begin no flight.

A state that no command answers is sent again every ``resend_period``, with the same stamp, so that
whoever joins late still gets it; simulation time stands still until then. While the vehicle is held
(paused before the first flight, or after the last step of an episode) its state is sent as often,
one time step later each time, so that nobody takes it for lost. Stamps never repeat for another
state and never go back, also across resets. A reset leaves out one time step: whoever records a
flight sees by the hole that the vehicle did not fly from one state to the next. The stamp of its
first state is told on ``flight_start``, where a controller hears that its reference begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from hmpc_ros.configuration import build, build_tracking
from hmpc_ros.configuration.signature import is_unasked
from hmpc_ros.configuration.tables import SIMULATOR
from hmpc_ros.configuration.tracking_tables import ROTOR_SPEEDS
from hmpc_ros.ros.command_interface import RATES, ROTORS, CommandInterface
from hmpc_ros.ros.conversions import NANOSECONDS, nanoseconds, set_stamp
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.qos import HISTORY, RELIABLE
from hmpc_ros.ros.spinning import run, tell_start

SLOWEST = 1e-3  # of real time: a timer's period has an end
REPORT_PERIOD = 2.0  # s of wall time between two reports of the same kind


class SimulatedVehicle(Protocol):
    """What the node asks of a vehicle; states and commands as its interface has them."""

    def reset(self, x0: np.ndarray, flight: int | None = None) -> None:
        """Begin a flight."""

    def step(self, u: np.ndarray) -> None:
        """Fly one time step."""

    def measure(self) -> np.ndarray:
        """Return the measured state."""

    def truth(self) -> np.ndarray:
        """Return the state as it is."""


def _rotor_speeds(values: Mapping[str, Any]) -> tuple[SimulatedVehicle, np.ndarray, str]:
    mass, inertia = values['vehicle.mass'], values['vehicle.inertia']
    words = f'a vehicle of {mass:g} kg, inertia {inertia} kg m^2'
    return build.vehicle(values), np.array(values['initial_state'], dtype=float), words


def _thrust_and_rates(values: Mapping[str, Any]) -> tuple[SimulatedVehicle, np.ndarray, str]:
    vehicle, start = build_tracking.simulator(values), build_tracking.initial_state(values)
    vehicle.reset(start, flight=0)
    physics = f'the vehicle {values["preset"]} with the physics of {values["backend"]}'
    return vehicle, start, f'{physics}, {vehicle.conditions.told}'


@dataclass(frozen=True, eq=False)
class _Setup:
    """All that a flight is flown with, made from one set of parameter values."""

    vehicle: SimulatedVehicle
    interface: CommandInterface
    words: str
    initial_state: np.ndarray
    step_ns: int
    real_time_factor: float
    resend_period: float
    episode_steps: int
    frame_id: str
    child_frame_id: str

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> _Setup:
        """Build the vehicle, at its initial state.

        Raises:
            ValueError: the values do not fit together.
        """
        if 0 < values['real_time_factor'] < SLOWEST:
            raise ValueError(
                f'real_time_factor must be 0 or at least {SLOWEST:g}, got '
                f'{values["real_time_factor"]:g}'
            )
        rotors = values['backend'] == ROTOR_SPEEDS
        vehicle, start, words = (_rotor_speeds if rotors else _thrust_and_rates)(values)
        return cls(
            vehicle=vehicle,
            interface=ROTORS if rotors else RATES,
            words=words,
            initial_state=start,
            step_ns=round(float(values['time_step']) * NANOSECONDS),
            real_time_factor=float(values['real_time_factor']),
            resend_period=float(values['resend_period']),
            episode_steps=int(values['episode_steps']),
            frame_id=str(values['frame_id']),
            child_frame_id=str(values['child_frame_id']),
        )


class Simulator(Node):
    """Steps a simulated vehicle with the commands it is sent."""

    def __init__(self) -> None:
        """Declare the parameters and publish the first state, or wait for ``~/reset``."""
        super().__init__('simulator', start_parameter_services=False)
        # Changed parameters fly from the next reset on: a flight is flown with one set of them.
        self._settings = NodeParameters(self, SIMULATOR, _Setup.from_values, lambda _setup: None)
        self._setup: _Setup = self._settings.prepared

        overridable = QoSOverridingOptions.with_default_policies
        self._odometry_publisher = self.create_publisher(
            Odometry, 'odom', HISTORY, qos_overriding_options=overridable()
        )
        self._truth_publisher = self.create_publisher(Odometry, 'ground_truth', HISTORY)
        self._truth_is_wanted = False
        self._flight_publisher = self.create_publisher(Header, 'flight_start', RELIABLE)
        self._clock_publisher = self.create_publisher(ClockMessage, '/clock', RELIABLE)
        self.create_subscription(
            self._setup.interface.message,
            self._setup.interface.topic,
            self._on_command,
            RELIABLE,
            qos_overriding_options=overridable(),
        )
        self.create_service(Trigger, '~/reset', self._on_reset)

        # A flight starts one step into simulation time: stamp 0 means "not set" to many.
        self._time = self._setup.step_ns
        self._flight = 0
        self._flight_start = self._time
        self._steps = 0
        self._answered = 0  # stamp of the newest command that is held
        self._command: np.ndarray | None = None  # held between steps when paced
        self._waiting = 'the first reset' if self._settings['start_paused'] else ''
        self._received = np.zeros(self._setup.interface.inputs)
        self._odometry = Odometry()
        self._clock_message = ClockMessage()
        self._sent_at = 0.0
        self._ignored = {'malformed': 0, 'of another time': 0, 'repeated': 0}
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._pacer: Any = None
        self._resender: Any = None
        self._use_setup()
        s = self._settings
        pace = s['real_time_factor']
        tell_start(
            self,
            f'simulates {self._setup.words}, step {s["time_step"]:g} s, '
            + (f'at {pace:g} times the pace of the clock' if pace else 'in lockstep'),
            ('odom', self._setup.interface.topic),
        )
        self._publish()

    def _use_setup(self) -> None:
        """Take over what a change of parameters prepared."""
        self._setup = setup = self._settings.prepared
        self._odometry.header.frame_id = setup.frame_id
        self._odometry.child_frame_id = setup.child_frame_id
        for timer in (self._pacer, self._resender):
            if timer is not None:
                self.destroy_timer(timer)
        self._pacer = None
        if setup.real_time_factor > 0:
            period = setup.step_ns / NANOSECONDS / setup.real_time_factor
            self._pacer = self.create_timer(period, self._on_pace, clock=self._wall)
        self._resender = self.create_timer(setup.resend_period, self._on_resend, clock=self._wall)

    # -- callbacks -----------------------------------------------------------------------------

    def _on_command(self, message: Any) -> None:
        """Step, when this command answers the current state; hold it, when paced."""
        try:
            self._setup.interface.read_command(message, self._received)
        except ValueError as error:
            self._ignore('malformed', str(error))
            return
        stamp, asked = nanoseconds(message.header.stamp), not is_unasked(message.header.frame_id)
        if self._setup.real_time_factor > 0:
            if not self._answered < stamp <= self._time or (self._command is None and not asked):
                self._ignore_stamp(stamp)
            else:
                self._answered = stamp
                self._command = self._received.copy()
        elif stamp != self._time or not asked:
            self._ignore_stamp(stamp)
        elif not self._waiting:
            self._step(self._received)

    def _on_pace(self) -> None:
        """Step with the command that is held; before the first one the vehicle rests."""
        if self._command is not None and not self._waiting:
            self._step(self._command)

    def _on_resend(self) -> None:
        """Send the current state again when nothing has moved for a while."""
        # Asked here and not for every state: the question costs more than a state.
        self._truth_is_wanted = self._truth_publisher.get_subscription_count() > 0
        if self._command is not None and not self._waiting:
            return  # paced and flying: the next state comes by itself
        if time.monotonic() - self._sent_at >= self._setup.resend_period:
            if self._waiting:
                self._time += self._setup.step_ns
            self._publish()

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin a new flight at the initial state, with the parameters as they are now."""
        # The pause before the very first flight was no flight: the first reset begins number 0.
        if self._settings['next_flight'] >= 0:
            self._flight = self._settings['next_flight']
            self.set_parameters([RosParameter('next_flight', value=-1)])
        elif self._waiting != 'the first reset':
            self._flight += 1
        self._use_setup()
        self._setup.vehicle.reset(self._setup.initial_state, flight=self._flight)
        self._time += 2 * self._setup.step_ns
        start = round(self._settings['next_start'] * NANOSECONDS)
        if start >= self._time:
            self._time = start
            self.set_parameters([RosParameter('next_start', value=-1.0)])
        self._flight_start = self._time
        self._steps = 0
        self._command = None
        self._answered = self._time - 1  # what answers states from before is no command of it
        self._waiting = ''
        response.success = True
        response.message = f'flight {self._flight} starts at {_seconds(self._time)}'
        self.get_logger().info(response.message)
        begun = Header(frame_id=self._setup.frame_id)
        set_stamp(begun.stamp, self._time)
        self._flight_publisher.publish(begun)
        self._publish()
        return response

    # -- the flight ----------------------------------------------------------------------------

    def _step(self, command: np.ndarray) -> None:
        """Fly one time step and publish the new state."""
        vehicle = self._setup.vehicle
        vehicle.step(command)
        if not np.isfinite(vehicle.truth()).all():
            # Nothing sensible can follow; what is published last is the last finite measurement.
            self._waiting = 'a reset, after a crash'
            self.get_logger().error(
                f'the simulated state is not finite after step {self._steps + 1} of flight '
                f'{self._flight}; the simulator holds until it is reset'
            )
            return
        self._time += self._setup.step_ns
        self._steps += 1
        if self._steps == self._setup.episode_steps:
            self._waiting = 'the next reset'
            self.get_logger().info(f'flight {self._flight} is over after {self._steps} steps')
        self._publish()

    def _publish(self) -> None:
        """Publish the time and the measured state."""
        set_stamp(self._clock_message.clock, self._time)
        self._clock_publisher.publish(self._clock_message)
        setup = self._setup
        setup.interface.write_state(setup.vehicle.measure(), self._time, self._odometry)
        self._odometry_publisher.publish(self._odometry)
        if self._truth_is_wanted:
            setup.interface.write_state(setup.vehicle.truth(), self._time, self._odometry)
            self._truth_publisher.publish(self._odometry)
        self._sent_at = time.monotonic()

    def _ignore_stamp(self, stamp: int) -> None:
        """Sort out a command that does not answer the current state."""
        # A state that was sent twice is answered twice: so lockstep survives a lost message.
        kind = 'repeated' if self._flight_start <= stamp < self._time else 'of another time'
        self._ignore(kind, f'it is stamped {_seconds(stamp)}, now is {_seconds(self._time)}')

    def _ignore(self, kind: str, why: str) -> None:
        """Count a command that is not flown, and say so once in a while."""
        self._ignored[kind] += 1
        if kind == 'repeated':
            return
        counts = ', '.join(f'{count} {name}' for name, count in self._ignored.items())
        self.get_logger().warning(
            f'ignored a {self._setup.interface.topic.replace("_", " ")}, {why} (so far: {counts})',
            throttle_duration_sec=REPORT_PERIOD,
        )


def _seconds(stamp: int) -> str:
    """Write a stamp [ns] in seconds, exactly."""
    return f'{stamp // NANOSECONDS}.{stamp % NANOSECONDS:09d}'


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(Simulator, args)


if __name__ == '__main__':
    raise SystemExit(main())
