"""Each kind of policy as the controller node flies it: from parameters to a pilot to topics.

The node knows nothing else of what it flies: `POLICIES` has one entry for each ``policy.kind``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from nav_msgs.msg import Path
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hmpc_ros.configuration import build, build_tracking
from hmpc_ros.configuration.signature import WEIGHTS
from hmpc_ros.plant.kinds import POSITION
from hmpc_ros.plant.reference.splines import from_points
from hmpc_ros.plant.rigid_body import resting_state
from hmpc_ros.policy.flight_controller import Answer, Pilot
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.pilot import LinearPilot
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.pilot import TrackingPilot
from hmpc_ros.policy.tracking.policy import Window
from hmpc_ros.ros.command_interface import RATES, ROTORS, CommandInterface
from hmpc_ros.ros.conversions import (
    nanoseconds,
    new_path,
    planned_state,
    points_from_trajectory,
    set_path,
    set_rigid_body_path,
    set_stamp,
)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """A topic on which a policy tells about its solutions."""

    topic: str  #: its name
    message: type  #: its type
    make: Callable[[Answer], Any]  #: returns the message about an answer that was solved, or None
    #: whether it is published, and kept for those who join late, although nobody listens
    latched: bool = False


@dataclass(frozen=True)
class Heard:
    """A topic that a policy listens to."""

    topic: str  #: its name
    message: type  #: its type, with a header, or a header itself
    #: takes a message in and says what became of it, if it is worth a word; raises ValueError with
    #: a sentence
    take: Callable[[Any], str]


class FlownPolicy(Protocol):
    """A kind of policy over ROS."""

    @property
    def interface(self) -> CommandInterface:
        """Of the vehicle that it flies."""

    @property
    def told(self) -> tuple[Told, ...]:
        """Topics beside the command."""

    @property
    def heard(self) -> tuple[Heard, ...]:
        """Topics beside odometry and ``goal_pose``."""

    def started(self, values: Values) -> Values:
        """Return the values with what ``weights_file`` says; raises ValueError when it does not."""

    def prepare(self, values: Values) -> Any:
        """Build what may change in flight; raises ValueError when values do not go together."""

    def start(self, prepared: Any, values: Values) -> Pilot:
        """Load the solver; raises as the policy does."""

    def apply(self, prepared: Any) -> None:
        """Fly with what `prepare` built; nothing to do before `start`."""

    def go_to(self, goal: Goal) -> None:
        """Fly to a goal; nothing to do before `start`."""

    def words(self, values: Values) -> str:
        """Say what vehicle it flies with what."""


@dataclass(frozen=True, eq=False)
class _Linear:
    parameters: Parameters
    limits: Limits
    goal: Goal


class LinearPolicy:
    """The linear MPC with rotor speeds, to a goal."""

    interface = ROTORS
    heard: tuple[Heard, ...] = ()

    def __init__(self, values: Values) -> None:
        """Build the model: all that it is made from is read-only."""
        self.model = build.model(values)
        self._parameters_key: Any = None
        self._pilot: LinearPilot | None = None
        self._time_step = float(values['time_step'])
        self._path = new_path(values['frame_id'], values['horizon'] + 1)
        self.told = (Told('predicted_path', Path, self._predicted_path),)

    def started(self, values: Values) -> Values:
        """Read weights that were learned for this model."""
        return build.started(values, self.model)

    def prepare(self, values: Values) -> _Linear:
        """Return parameters, limits and goal."""
        limits = build.limits(values)
        limits.input_range(self.model.hover_input)
        # The Riccati equation behind an empty policy.p is only solved when the weights change.
        key = [values[name] for name in WEIGHTS]
        if key != self._parameters_key:
            self._parameters = build.parameters(values, self.model)
            self._parameters_key = key
        return _Linear(self._parameters, limits, build.goal(values))

    def start(self, prepared: _Linear, values: Values) -> LinearPilot:
        """Return the MPC to its goal."""
        mpc = Mpc.of(prepared.parameters, self.model, prepared.limits, values['horizon'])
        self._pilot = LinearPilot(mpc, prepared.goal)
        return self._pilot

    def apply(self, prepared: _Linear) -> None:
        """Set everything."""
        if self._pilot is not None:
            self._pilot.set_limits(prepared.limits)
            self._pilot.use(prepared.parameters)
            self._pilot.set_goal(prepared.goal)

    def go_to(self, goal: Goal) -> None:
        """Nothing is left to do: the goal is a parameter, which was applied."""

    def words(self, values: Values) -> str:
        """Say with what vehicle, model and weights it flies."""
        model = values['model.file'] if values['model.source'] == 'file' else values['model.source']
        return (
            f'flies a vehicle of {values["vehicle.mass"]:g} kg, inertia '
            f'{values["vehicle.inertia"]} kg m^2, rotors up to {values["limits.rotor_max"]:g} '
            f'rad/s; model {model}, step {self._time_step:g} s, horizon {values["horizon"]}; '
            f'weights from {values["weights_file"] or "the parameters policy.*"}'
        )

    def _predicted_path(self, answer: Answer) -> Path:
        assert self._pilot is not None
        goal, solution = self._pilot.goal, answer.solution
        states = goal.world(solution.states)
        if solution.unseen is not None:  # the plan is towards a goal that was moved
            states[:, POSITION] += solution.unseen @ goal.rotation[POSITION, POSITION]
        set_path(states, answer.time, self._time_step, self._path)
        return self._path


#: What ``estimates`` holds, by name: m/s^2, 1, m/s^2.
ESTIMATES = ('thrust', 'thrust_ratio', 'disturbance_x', 'disturbance_y', 'disturbance_z')
# Poses of the reference that are shown, at most, and time between them [s].
_SHOWN, _SHOWN_STEP = 400, 0.05


class TrackingPolicy:
    """The nonlinear MPC with thrust and body rates, along a reference."""

    interface = RATES

    def __init__(self, values: Values) -> None:
        """Build the reference: all that it is made from is read-only."""
        self._reference, self._demand = build_tracking.reference(build_tracking.alone(values))
        self._pilot: TrackingPilot | None = None
        self._goal = build.goal(values)
        self._infeasible = str(values['reference.infeasible'])
        self._yaw = str(values['reference.yaw'])
        self._frame_id = str(values['frame_id'])
        self._shown: Any = None
        self._shown_until = math.inf  # time [s] of the reference up to which it was told
        self._shown_begin = 0.0
        self._estimates = JointState(name=list(ESTIMATES))
        self._path: Path | None = None
        self.told = (
            Told('predicted_path', Path, self._predicted_path),
            Told('planned_state', MultiDOFJointTrajectory, self._planned_state),
            Told('estimates', JointState, self._told_estimates),
            Told('reference_path', Path, self._reference_path, latched=True),
        )
        self.heard = (
            Heard('trajectory', MultiDOFJointTrajectory, self._take_trajectory),
            Heard('flight_start', Header, self._take_flight_start),
        )

    def started(self, values: Values) -> Values:
        """Read weights that were learned for this vehicle."""
        return build_tracking.started(values, build_tracking.assumed(build_tracking.alone(values)))

    def prepare(self, values: Values) -> Any:
        """Return parameters, limits, goal, and the stamp at which the reference begins."""
        preset = build_tracking.assumed(build_tracking.alone(values))
        return (
            build_tracking.parameters(values, preset),
            build_tracking.limits(values, preset),
            build.goal(values),
            float(values['reference.begin']),
        )

    def start(self, prepared: Any, values: Values) -> TrackingPilot:
        """Return the MPC along its reference."""
        self._begin = float(values['reference.begin'])
        policy = build_tracking.policy(build_tracking.alone(values))
        # A process' first solve takes longer than a control period: not in flight.
        policy.solve(resting_state(), Window(self._reference, 0.0))
        self._pilot = TrackingPilot(
            policy, self._reference, _stamp(self._begin), build_tracking.pace(values)
        )
        self.apply(prepared)
        return self._pilot

    def apply(self, prepared: Any) -> None:
        """Set weights, model and limits; a goal or a beginning that is new is flown."""
        parameters, limits, goal, begin = prepared
        if self._pilot is None:
            self._goal = goal
            return
        self._pilot.set_limits(limits)
        self._pilot.set_parameters(parameters)
        if begin != self._begin:
            self._begin = begin
            self._pilot.begin_at(_stamp(begin))
        if goal != self._goal:
            self._goal = goal
            self.go_to(goal)

    def go_to(self, goal: Goal) -> None:
        """Fly to a goal along a bounded path, also to the one that the parameters held before."""
        if self._pilot is not None:
            self._pilot.go_to(np.array(goal.position), goal.yaw)

    def words(self, values: Values) -> str:
        """Say with what vehicle it flies along what."""
        preset = build_tracking.assumed(build_tracking.alone(values))
        return (
            f'flies the vehicle {preset.name} of {preset.airframe.mass:g} kg by thrust and body '
            f'rates, step {values["time_step"]:g} s, along {values["reference.kind"]}, which asks '
            f'for {self._demand}'
        )

    def _take_trajectory(self, message: MultiDOFJointTrajectory) -> str:
        if self._pilot is None:
            raise ValueError('the controller is not configured')
        points = points_from_trajectory(message)
        yaw = 'path' if self._yaw == 'path' else 'given'
        demand = self._pilot.follow(from_points(**points, yaw=yaw), self._infeasible)
        return f'flying a trajectory of {len(message.points)} points, which asks for {demand}'

    def _take_flight_start(self, message: Header) -> str:
        """Begin the reference anew where a simulator was reset, unless its beginning is set."""
        if self._pilot is None or self._begin >= 0.0:
            return ''
        self._pilot.restart(nanoseconds(message.stamp))
        return 'the simulator was reset: the reference begins anew'

    def _predicted_path(self, answer: Answer) -> Path:
        assert self._pilot is not None
        states = answer.solution.states
        if self._path is None:
            self._path = new_path(self._frame_id, len(states))
        set_rigid_body_path(states, answer.time, self._pilot.plan_step, self._path)
        return self._path

    def _planned_state(self, answer: Answer) -> MultiDOFJointTrajectory:
        assert self._pilot is not None
        step = self._pilot.plan_step
        return planned_state(answer.solution.states, answer.time, step, self._frame_id)

    def _told_estimates(self, answer: Answer) -> JointState:
        set_stamp(self._estimates.header.stamp, answer.time)
        self._estimates.position = answer.solution.estimate.tolist()
        return self._estimates

    def _reference_path(self, answer: Answer) -> Path | None:
        """Return what is to be flown from now on, when that is news."""
        assert self._pilot is not None
        reference, time = self._pilot.reference, self._pilot.time(answer.time)
        begin = self._pilot.time(0)  # the same one is news when it begins at another stamp
        told = reference is self._shown and begin == self._shown_begin
        if told and time < self._shown_until:
            return None
        self._shown, self._shown_begin = reference, begin
        now = max(time, 0.0)  # of one that is still to begin, nothing but its beginning
        count = int(min(max(reference.duration - now, 0.0) / _SHOWN_STEP + 2, _SHOWN))
        # Told on before its end is reached, where it goes on.
        goes_on = count == _SHOWN
        self._shown_until = now + _SHOWN_STEP * (count - 2) if goes_on else math.inf
        samples = reference.sample(now + _SHOWN_STEP * np.arange(count))
        states = np.array(
            [resting_state(*each) for each in zip(samples.position, samples.yaw, strict=True)]
        )
        path = new_path(self._frame_id, count)
        set_rigid_body_path(states, answer.time + round(1e9 * (now - time)), _SHOWN_STEP, path)
        return path


def _stamp(begin: float) -> int | None:
    """Return ``reference.begin`` as a stamp [ns]; None: the first odometry's."""
    return None if begin < 0 else round(1e9 * begin)


#: By ``policy.kind``.
POLICIES: Mapping[str, Callable[[Values], FlownPolicy]] = {
    'qp': LinearPolicy,
    'tracking': TrackingPolicy,
}
