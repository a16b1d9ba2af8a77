"""Node ``controller``: odometry in, commands out, through an MPC and its safety ladder.

A lifecycle node; with ``autostart`` it configures and activates itself. Every odometry gets its
command at once, stamped with the odometry's stamp; what is answered, and what is not, is decided by
`hmpc_ros.policy.flight_controller`. Which MPC flies, ``policy.kind``, and how it goes about it is
told by `hmpc_ros.ros.policies`. Weights, limits, goal and the ladder's settings are parameters that
may change in flight; a command's ``frame_id``, which means nothing for a command, is the signature
of those it was found with (`hmpc_ros.configuration.signature`), marked where no odometry is
answered because none comes. A pose on ``goal_pose`` sets the
parameters ``goal.position`` and ``goal.yaw``: there is one goal, and the parameters tell it.
"""

from __future__ import annotations

import functools
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos_overriding_options import QoSOverridingOptions

from hmpc_ros.configuration import build
from hmpc_ros.configuration.signature import LEARNED, signature, unasked
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.policy.acados import AcadosMissingError
from hmpc_ros.policy.flight_controller import (
    DROPPED,
    Answer,
    FlightController,
    Reason,
    Safety,
    Source,
    Statistics,
)
from hmpc_ros.policy.solver_cache import CodeGenerationError
from hmpc_ros.ros.conversions import NotARotationError, goal_from_pose, nanoseconds
from hmpc_ros.ros.parameters import NodeParameters, ros_type
from hmpc_ros.ros.policies import POLICIES, Heard
from hmpc_ros.ros.qos import HISTORY, LATCHED, NEWEST, RELIABLE
from hmpc_ros.ros.spinning import run, tell_start
from hmpc_ros.ros.trial_lease import TrialLease

REPORT_PERIOD = 2.0  # s between two log lines about the same thing
DIAGNOSTICS_PERIOD = 1.0  # s

INFO, WARN, ERROR = LoggingSeverity.INFO, LoggingSeverity.WARN, LoggingSeverity.ERROR


@dataclass(frozen=True, eq=False)
class _Tuning:
    """What may change in flight, made from one set of parameter values."""

    prepared: Any  # of the policy
    safety: Safety
    values: Mapping[str, Any]

    @functools.cached_property
    def signature(self) -> str:
        """Tells commands that were found with this from all others."""
        return signature(self.values)


def _told(
    transition: Callable[[Controller, LifecycleState], TransitionCallbackReturn],
) -> Callable[[Controller, LifecycleState], TransitionCallbackReturn]:
    """Log what goes wrong in a transition: rclpy turns exceptions into ERROR without a word."""

    @functools.wraps(transition)
    def told(node: Controller, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return told


class Controller(LifecycleNode):
    """Flies a `hmpc_ros.policy.flight_controller.FlightController` over ROS topics."""

    _policy: Any = None  # a `FlownPolicy`, from the first `_prepare` on

    def __init__(self) -> None:
        """Declare the parameters, and start when ``autostart`` says so.

        Raises:
            ValueError: the parameters do not describe a controller.
            SystemExit: ``autostart`` is set and the solver is not to be had.
        """
        super().__init__('controller', start_parameter_services=False)
        self._flight: FlightController | None = None
        self._settings = NodeParameters(self, CONTROLLER, self._prepare, self._apply)
        self._read_weights_file()
        self._lease = TrialLease(self)
        self._active = False
        self._frame_id: str = self._settings['frame_id']
        self._time_step: float = self._settings['time_step']
        self._interface = self._policy.interface
        self._state = np.empty(self._interface.states)
        self._command = self._interface.new_command()
        self._tellers: list[tuple[Any, Any]] = []  # (publisher, what is told)
        self._wanted: list[tuple[Any, Any]] = []  # those of them that somebody listens to
        self._source = Source.SOLUTION  # of the last answer that was not dropped
        self._said: dict[Any, float] = {}  # when what was logged last
        self._entities: list[tuple[Any, Any]] = []  # (how to destroy it, it)
        # Ages and periods are wall-clock time, whatever /clock does.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        if self._settings['autostart']:
            for transition in (self.trigger_configure, self.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    raise SystemExit(1)  # the transition has said why
        else:
            name = self.get_fully_qualified_name()
            self.get_logger().info(
                f'waiting to be configured and activated: ros2 lifecycle set {name} configure'
            )

    # -- parameters ----------------------------------------------------------------------------

    def _prepare(self, values: Mapping[str, Any]) -> _Tuning:
        """Build what flies from the parameters' values; raises ValueError when they do not fit."""
        if self._policy is None:
            self._policy = POLICIES[values['policy.kind']](values)
        return _Tuning(self._policy.prepare(values), build.safety(values), values)

    def _apply(self, tuning: _Tuning) -> None:
        """Fly with what `_prepare` built."""
        self._policy.apply(tuning.prepared)
        if self._flight is not None:
            self._flight.set_safety(tuning.safety)

    def _read_weights_file(self) -> None:
        """Start from learned weights, in the parameters too; raises ValueError when refused."""
        path = self._settings['weights_file']
        if path:
            values = self._policy.started(self._settings.values)
            result = self.set_parameters_atomically(
                [
                    RosParameter(name, ros_type(CONTROLLER[name]), values[name])
                    for name in LEARNED[values['policy.kind']]
                ]
            )
            if not result.successful:
                raise ValueError(f'the weights of {path} cannot be flown: {result.reason}')
            self.get_logger().info(f'flying the weights of {path}')

    # -- lifecycle -----------------------------------------------------------------------------

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load (or build) the solver and open the topics."""
        tuning = self._settings.prepared
        self.get_logger().info(
            'loading the solver; the first time it is generated and compiled, which takes some '
            'seconds'
        )
        try:
            pilot = self._policy.start(tuning.prepared, tuning.values)
        except (ValueError, OSError, AcadosMissingError, CodeGenerationError) as error:
            self.get_logger().error(f'cannot set up the MPC: {error}')
            return TransitionCallbackReturn.FAILURE
        self._flight = FlightController(
            pilot, tuning.safety, stamp_clock=lambda: 1e-9 * self.get_clock().now().nanoseconds
        )

        overridable = QoSOverridingOptions.with_default_policies
        self._command_publisher = self.create_lifecycle_publisher(
            self._interface.message,
            self._interface.topic,
            HISTORY,
            qos_overriding_options=overridable(),
        )
        self._tellers = [
            (
                self.create_lifecycle_publisher(
                    told.message,
                    told.topic,
                    LATCHED if told.latched else NEWEST,
                    qos_overriding_options=overridable(),
                ),
                told,
            )
            for told in self._policy.told
        ]
        # Not a lifecycle publisher: that the controller is inactive is a diagnosis, too.
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, '/diagnostics', RELIABLE
        )
        odometry = self.create_subscription(
            Odometry, 'odom', self._on_odometry, NEWEST, qos_overriding_options=overridable()
        )
        goal = self.create_subscription(
            PoseStamped, 'goal_pose', self._on_goal, NEWEST, qos_overriding_options=overridable()
        )
        others = [
            self.create_subscription(
                heard.message, heard.topic, functools.partial(self._on_heard, heard), NEWEST
            )
            for heard in self._policy.heard
        ]
        ticker = self.create_timer(self._time_step, self._on_tick, clock=self._steady)
        reporter = self.create_timer(
            DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=self._steady
        )
        self._entities = [
            (self.destroy_timer, ticker),
            (self.destroy_timer, reporter),
            (self.destroy_subscription, odometry),
            (self.destroy_subscription, goal),
            (self.destroy_publisher, self._diagnostics_publisher),
            (self.destroy_lifecycle_publisher, self._command_publisher),
            *((self.destroy_subscription, other) for other in others),
            *((self.destroy_lifecycle_publisher, publisher) for publisher, _ in self._tellers),
        ]
        heard = [each.topic for each in self._policy.heard]
        topics = ('odom', 'goal_pose', *heard, self._interface.topic)
        tell_start(self, self._policy.words(self._settings.values), topics)
        return super().on_configure(state)

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer from the next valid odometry on."""
        assert self._flight is not None
        self._flight.reset()
        self._source = Source.SOLUTION
        self._active = True
        self.get_logger().info('ready: every odometry is answered from now on')
        return super().on_activate(state)

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Send no more commands."""
        self._active = False
        self.get_logger().info('deactivated: no command is sent any more')
        return super().on_deactivate(state)

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics and give the solver back."""
        result = super().on_cleanup(state)
        self._close()
        return result

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Send no more commands, for good."""
        result = super().on_shutdown(state)
        self._close()
        return result

    def _close(self) -> None:
        self._active = False
        self._flight = None
        self._tellers, self._wanted = [], []
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities = []

    # -- callbacks -----------------------------------------------------------------------------

    def _on_odometry(self, message: Odometry) -> None:
        """Answer a measured state."""
        flight = self._flight
        if not self._active or flight is None:
            return
        stamp = nanoseconds(message.header.stamp)
        frame_id = message.header.frame_id
        if frame_id != self._frame_id:
            detail = f"it is in '{frame_id}', frame_id is '{self._frame_id}'"
            answer = flight.discard(Reason.WRONG_FRAME, stamp, detail)
        else:
            try:
                self._interface.read_state(message, self._state)
            except NotARotationError as error:
                answer = flight.discard(Reason.NOT_A_ROTATION, stamp, str(error))
            else:
                answer = flight.respond(self._state, stamp)
        self._deliver(answer)

    def _on_tick(self) -> None:
        """Fall back when the odometry stays away."""
        if self._active and self._flight is not None:
            # Asked here and not for every odometry: the question costs more than a command.
            self._wanted = [
                (publisher, told)
                for publisher, told in self._tellers
                if told.latched or publisher.get_subscription_count() > 0
            ]
            answer = self._flight.tick()
            if answer is not None:
                self._deliver(answer)

    def _on_goal(self, message: PoseStamped) -> None:
        """Fly to a pose: it becomes the goal parameters, by the same check as any other change."""
        frame_id = message.header.frame_id
        if frame_id not in ('', self._frame_id):
            why = f"it is in '{frame_id}', frame_id is '{self._frame_id}'"
            self._say(WARN, 'goal', f'goal refused: {why}')
            return
        try:
            goal = goal_from_pose(message)
        except ValueError as error:
            self._say(WARN, 'goal', f'goal refused: {error}')
            return
        result = self.set_parameters_atomically(
            [
                RosParameter('goal.position', value=list(goal.position)),
                RosParameter('goal.yaw', value=goal.yaw),
            ]
        )
        if not result.successful:
            self._say(WARN, 'goal', f'goal refused: {result.reason}')
        else:
            self._policy.go_to(goal)

    def _on_heard(self, heard: Heard, message: Any) -> None:
        """Hand on what else the policy listens to."""
        frame_id = getattr(message, 'header', message).frame_id
        try:
            if frame_id not in ('', self._frame_id):
                raise ValueError(f"it is in '{frame_id}', frame_id is '{self._frame_id}'")
            text = heard.take(message)
        except ValueError as error:
            self._say(WARN, heard.topic, f'{heard.topic} refused: {error}')
        else:
            if text:
                self._say(INFO, heard.topic, text)

    # -- answers -------------------------------------------------------------------------------

    def _deliver(self, answer: Answer) -> None:
        """Publish an answer, and say what is unusual about it."""
        if answer.command is not None:
            self._interface.write_command(answer.command, answer.time, self._command)
            if answer.reason is not Reason.REPEATED_STAMP:  # which was answered before
                own = self._settings.prepared.signature
                timed_out = answer.reason is Reason.STATE_TIMEOUT
                self._command.header.frame_id = unasked(own) if timed_out else own
            self._command_publisher.publish(self._command)
        if answer.solution is not None:
            for publisher, told in self._wanted:
                message = told.make(answer)
                if message is not None:
                    publisher.publish(message)
        if answer.reason is not Reason.SOLVED or self._source is not Source.SOLUTION:
            self._report(answer)

    def _report(self, answer: Answer) -> None:
        """Log what was dropped, and each rung of the ladder when it is reached."""
        if answer.reason is Reason.REPEATED_STAMP:
            return
        detail = f' ({answer.detail})' if answer.detail else ''
        if answer.reason in DROPPED:
            text = f'odometry dropped: {answer.reason.value}{detail}'
            self._say(WARN, answer.reason, text)
            return
        if answer.source is self._source:
            return
        self._source = answer.source
        if answer.source is Source.SOLUTION:
            self._say(INFO, Source.SOLUTION, 'recovered: flying solved inputs again')
        elif answer.source is Source.NOTHING:
            text = f'no command is sent any more: {answer.reason.value}{detail}'
            self._say(ERROR, Source.NOTHING, text)
        else:
            text = f'falling back to {answer.source.value}: {answer.reason.value}{detail}'
            self._say(WARN, (answer.source, answer.reason), text)

    def _say(self, severity: LoggingSeverity, key: Any, text: str) -> None:
        """Log a line, unless one with the same key was logged a moment ago."""
        # rclpy's own throttle goes by the line of code, so that one reason would hide another.
        now = time.monotonic()
        if now - self._said.get(key, -math.inf) < REPORT_PERIOD:
            return
        self._said[key] = now
        # One line of code per severity: rclpy raises when a line changes its own.
        log = self.get_logger()
        if severity is ERROR:
            log.error(text)
        elif severity is WARN:
            log.warning(text)
        else:
            log.info(text)

    # -- diagnostics ---------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        """Publish the counters, once a second."""
        if self._flight is None:
            return
        statistics = self._flight.statistics()
        if not self._active:
            level, text = DiagnosticStatus.OK, 'inactive'
        elif self._source is Source.NOTHING:
            level, text = DiagnosticStatus.ERROR, 'no command is sent'
        elif self._source is not Source.SOLUTION:
            level, text = DiagnosticStatus.WARN, f'falling back: {self._source.value}'
        elif not statistics.states:
            level, text = DiagnosticStatus.OK, 'waiting for the first odometry'
        else:
            level, text = DiagnosticStatus.OK, 'flying'
        status = DiagnosticStatus(
            level=level,
            name=f'{self.get_fully_qualified_name().lstrip("/")}: flight',
            message=text,
            values=[KeyValue(key=k, value=v) for k, v in diagnostic_values(statistics)],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)


def diagnostic_values(statistics: Statistics) -> list[tuple[str, str]]:
    """Return the statistics as keys and values for ``/diagnostics``."""
    s = statistics
    return [
        ('state age [s]', f'{s.state_age:.3f}'),
        ('state age by', 'stamp and arrival' if s.age_by_stamp else 'arrival'),
        ('solve time median [ms]', f'{1e3 * s.solve_time_median:.3f}'),
        ('solve time 99 % [ms]', f'{1e3 * s.solve_time_p99:.3f}'),
        ('states', str(s.states)),
        ('solves', str(s.solves)),
        ('failures', str(s.failures)),
        ('fallbacks', str(sum(s.fallbacks.values()))),
        *((f'fallbacks: {reason.value}', str(n)) for reason, n in s.fallbacks.items()),
        ('missed deadlines', str(s.missed_deadlines)),
        ('timeouts', str(s.timeouts)),
        ('silences', str(s.silences)),
        ('tilts', str(s.tilts)),
        ('repeats', str(s.repeats)),
        ('new runs', str(s.new_runs)),
        ('stamps that ran ahead', str(s.ran_ahead)),
        ('dropped', str(sum(s.dropped.values()))),
        *((f'dropped: {reason.value}', str(n)) for reason, n in s.dropped.items()),
    ]


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(Controller, args)


if __name__ == '__main__':
    raise SystemExit(main())
