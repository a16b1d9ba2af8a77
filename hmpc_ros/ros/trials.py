"""What a kind of policy needs to be flown on trial: what is lent, where it begins, what it was.

`hmpc_ros.ros.flyer` flies the requests of a training run and knows nothing else of what it flies:
`TRIALS` has one entry for each ``policy.kind`` of the controller.
"""

# ruff: noqa: ARG002 (each kind needs some of what the protocol hands it)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from hmpc_ros.configuration import build, build_tracking, learner, tracking_learner
from hmpc_ros.configuration.tracking_tables import BETWEEN_FLIGHTS, NEVER
from hmpc_ros.learning.rollout import Task
from hmpc_ros.plant import kinds
from hmpc_ros.plant.kinds import POSITION, VELOCITY
from hmpc_ros.plant.protocol import POSITION_ERROR, TILT_ERROR
from hmpc_ros.plant.quadcopter import YAW
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.weights import SLACK
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.ros.aligned_log import AlignedLog
from hmpc_ros.ros.command_interface import RATES, ROTORS, CommandInterface
from hmpc_ros.ros.flight_log import FlightLog
from hmpc_ros.ros.stamped import Stamped, truth_differs

Values = Mapping[str, Any]
Array = NDArray[np.float64]

# From the request for a flight to its beginning [s], of a vehicle that nobody resets: the
# controller has heard of it by then.
LEAD = 1.0


class Trials(Protocol):
    """Flights on trial of one kind of policy; `meet` comes first."""

    interface: CommandInterface
    time_step: float
    steps: int

    def meet(self, values: Values) -> dict[str, Any]:
        """Take in the controller's parameters; return them with what is chosen for it.

        Raises:
            ValueError: the learner's values do not go with them.
        """

    def listen(self, node: Node, simulator: Values | None) -> None:
        """Subscribe to what a flight tells beside states and commands."""

    def log(self) -> FlightLog | AlignedLog:
        """Return an empty record for a flight."""

    def lent(self, parameters: Parameters) -> dict[str, Any]:
        """Return the controller's parameters that are lent."""

    def chosen(self, task: int, newest: int | None) -> dict[str, Any]:
        """Choose a flight's task and beginning; return the controller's parameters for it.

        Args:
            task: its number.
            newest: stamp of the last state heard [ns].
        """

    @property
    def not_before(self) -> int:
        """Stamp that the flight does not begin before [ns]."""

    def reset(self, number: int) -> dict[str, Any]:
        """Return the simulator's parameters for the flight that was chosen, by its number."""

    def staying(self) -> dict[str, Any]:
        """Return the controller's parameters between flights, beside the accepted ones."""

    def simulated(self, values: Values) -> dict[str, Any]:
        """Return the simulator's parameters as the record of the run has them."""

    def deviation(self, state: Array, age: float) -> Array:
        """Return the errors (nd,) of a state at a time of the flight [s], for its envelope."""

    def from_start(self, state: Array) -> tuple[float, float]:
        """Return distance from the start [m] and speed [m/s]."""

    def heard(self, stamps: Sequence[int]) -> bool:
        """Return whether everything about a flight with these stamps [ns] has come."""

    def flight(self, states: Array, inputs: Array, stamps: Sequence[int], ended: str = '') -> Any:
        """Return the record of a flight.

        Args:
            states: (t+1, nx), measured.
            inputs: (t, nu).
            stamps: of what was answered in each step [ns]; empty when it was not begun.
            ended: why it ended early, empty when it did not.
        """


class GoalTrials:
    """Flights of the linear MPC to a goal; by the learner's tasks where it has some."""

    interface = ROTORS
    not_before = 0

    def __init__(self, settings: Values) -> None:
        """Build the one task that flights have where the learner's table tells no others."""
        self._settings = settings
        self._resets = settings['reset'] == 'service'
        # Over a reset service the controller's goal and the simulator's start, else the learner's.
        goal = Goal(tuple(settings['goal.position']), settings['goal.yaw'])
        start = Goal(tuple(settings['start.position']), settings['start.yaw'])
        self._tasks: tuple[Task, ...] = (Task(goal, tuple(start.state.tolist())),)
        self._task = self._tasks[0]  # that of the present flight
        self._sets_goal = not self._resets or bool(settings['tasks.goals'])
        self._sets_start = self._resets and bool(settings['tasks.starts'])

    def meet(self, values: Values) -> dict[str, Any]:
        """Take in model and goal."""
        model = build.model(values)
        self._own = {'model': model.entries, 'slack': SLACK.ravel()}
        self.time_step, self._hover = model.time_step, model.hover_input
        self.steps = int(self._settings['steps'])
        only = self._tasks[0]
        if self._resets:
            only = replace(only, goal=build.goal(values))
        self._tasks = learner.tasks(self._settings, only.goal, only.start) or (only,)
        self._task = self._tasks[0]
        return {**values, **(_goal_values(self._task.goal) if self._sets_goal else {})}

    def listen(self, node: Node, simulator: Values | None) -> None:
        """Do nothing: states and commands tell everything."""

    def log(self) -> FlightLog:
        """Return a record of steps that states keep."""
        return FlightLog(self.steps, self.time_step)

    def lent(self, parameters: Parameters) -> dict[str, Any]:
        """Return ``policy.*``."""
        entries = parameters.entries(self._own)
        return {f'policy.{name}': numbers for name, numbers in entries.items()}

    def chosen(self, task: int, newest: int | None) -> dict[str, Any]:
        """Return the task's goal."""
        self._task = self._tasks[task]
        return _goal_values(self._task.goal) if self._sets_goal else {}

    def reset(self, number: int) -> dict[str, Any]:
        """Return the task's start."""
        return {'initial_state': list(self._task.start)} if self._sets_start else {}

    def staying(self) -> dict[str, Any]:
        """Return where the next flight starts, or the first task's goal."""
        if not self._resets:
            return _goal_values(self._start)
        return _goal_values(self._tasks[0].goal) if self._sets_goal else {}

    def simulated(self, values: Values) -> dict[str, Any]:
        """Return the values with the first task's start."""
        start = {'initial_state': list(self._tasks[0].start)} if self._sets_start else {}
        return {**values, **start}

    @property
    def _start(self) -> Goal:
        x, y, z = self._task.start[POSITION]
        return Goal((x, y, z), self._task.start[YAW])

    def deviation(self, state: Array, age: float) -> Array:
        """Return the state (12,) in the goal's frame."""
        return self._task.goal.deviation(state)

    def from_start(self, state: Array) -> tuple[float, float]:
        """Return both as the goal's frame has them."""
        x = self._start.deviation(state)
        return float(np.linalg.norm(x[POSITION])), float(np.linalg.norm(x[VELOCITY]))

    def heard(self, stamps: Sequence[int]) -> bool:
        """Return True."""
        return True

    def flight(
        self, states: Array, inputs: Array, stamps: Sequence[int], ended: str = ''
    ) -> Flight:
        """Return the flight to the task's goal."""
        return Flight(
            states=states,
            inputs=inputs,
            goal=self._task.goal,
            hover_input=self._hover,
            planned_steps=self.steps,
            ended=ended,
        )


class ReferenceTrials:
    """Flights of the tracking MPC along its reference, begun at a stamp that is chosen for each."""

    interface = RATES

    def __init__(self, settings: Values) -> None:
        """Know nothing of the reference yet; raises ValueError where the learner has tasks."""
        self._settings = settings
        self._resets = settings['reset'] == 'service'
        self._begin = -1.0  # s
        self._heard: Stamped | None = None
        for name in ('tasks.goals', 'tasks.starts'):
            if settings[name]:
                raise ValueError(f'{name} are of policy.kind qp: leave them out with tracking')

    def meet(self, values: Values) -> dict[str, Any]:
        """Take in the reference."""
        if values['reference.kind'] == 'topic':
            raise ValueError('reference.kind topic: there is no flight to fly again')
        self.time_step = values['time_step']
        self.reference, _ = build_tracking.reference(build_tracking.alone(values))
        _, end = tracking_learner.counted(values, self.reference)
        self.steps = tracking_learner.steps_to(end, self.time_step)
        self._begin = max(self._begin, values['reference.begin'])
        return dict(values)

    def listen(self, node: Node, simulator: Values | None) -> None:
        """Listen to the controller's estimates, and to the truth where sensors do not tell it."""
        if self._heard is None:
            self._heard = Stamped(truth=simulator is not None and truth_differs(simulator))
            self._heard.listen(node)

    def log(self) -> FlightLog | AlignedLog:
        """Return a record of steps that a simulator keeps, or of those of any other vehicle."""
        kind = FlightLog if self._resets else AlignedLog
        return kind(self.steps, self.time_step)

    def lent(self, parameters: Parameters) -> dict[str, Any]:
        """Return ``tracking.*``."""
        return build_tracking.entries(parameters.theta)

    def chosen(self, task: int, newest: int | None) -> dict[str, Any]:
        """Return the stamp at which the reference begins."""
        now = 1e-9 * (newest or 0)
        if self._resets:
            flown = math.floor(max(now, self._begin) / BETWEEN_FLIGHTS)
            self._begin = BETWEEN_FLIGHTS * (flown + 1)
        else:
            self._begin = now + LEAD
        return {'reference.begin': self._begin}

    @property
    def not_before(self) -> int:
        """Where the reference begins."""
        return round(1e9 * self._begin)

    def reset(self, number: int) -> dict[str, Any]:
        """Return the stamp of the flight's first state, which only one reset begins at."""
        return {'next_start': self._begin, 'next_flight': number}

    def staying(self) -> dict[str, Any]:
        """Return a beginning that never comes, which sends the vehicle to where it will be."""
        return {} if self._resets else {'reference.begin': NEVER}

    def simulated(self, values: Values) -> dict[str, Any]:
        """Return the values as they are."""
        return dict(values)

    def deviation(self, state: Array, age: float) -> Array:
        """Return the distance from the reference, and the tilt, of a state (13,)."""
        errors = np.zeros(12)
        wanted = self.reference.sample(np.array([age])).position[0]
        errors[POSITION_ERROR] = state[POSITION] - wanted
        errors[TILT_ERROR] = float(kinds.RATES.tilt(state)), 0.0
        return errors

    def from_start(self, state: Array) -> tuple[float, float]:
        """Return distance from the reference's beginning, and speed."""
        start = self.reference.sample(np.zeros(1)).position[0]
        distance, speed = state[POSITION] - start, state[VELOCITY]
        return float(np.linalg.norm(distance)), float(np.linalg.norm(speed))

    def heard(self, stamps: Sequence[int]) -> bool:
        """Return whether the last step's estimates, and the last truth, have come."""
        assert self._heard is not None
        return len(stamps) < 2 or self._heard.heard(stamps[-2], stamps[-1])

    def flight(
        self, states: Array, inputs: Array, stamps: Sequence[int], ended: str = ''
    ) -> TrackedFlight:
        """Return the flight along the reference; steps without estimates were not solved."""
        assert self._heard is not None
        found = self._heard.flight(
            states, inputs, stamps or [0], self.reference, self.time_step, self.steps, ended
        )
        self._heard.forget()
        return found


def _goal_values(goal: Goal) -> dict[str, Any]:
    return {'goal.position': list(goal.position), 'goal.yaw': goal.yaw}


#: By ``policy.kind``.
TRIALS: Mapping[str, type[GoalTrials] | type[ReferenceTrials]] = {
    'qp': GoalTrials,
    'tracking': ReferenceTrials,
}
