"""Flies the simulated vehicle under the MPC, here and now, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from hmpc_ros.learning.flight import Flight
from hmpc_ros.learning.safety import Envelope
from hmpc_ros.plant.odometry import carried
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.flight_controller import FlightController, Safety, Source
from hmpc_ros.policy.linear.pilot import LinearPilot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.plant.vehicle import Vehicle
    from hmpc_ros.policy.linear.goal import Goal
    from hmpc_ros.policy.linear.mpc import Mpc, Solution
    from hmpc_ros.policy.linear.unconstrained import OfflineMpc


def rollout(
    vehicle: Vehicle,
    mpc: Mpc | OfflineMpc,
    goal: Goal,
    x0: NDArray[np.float64],
    steps: int,
    flight_number: int | None = None,
    safety: Safety | None = None,
    keep_solutions: bool = True,
) -> Flight:
    """Fly ``steps`` steps from a state to a goal; the same again for the same arguments.

    The commands are those of the ``FlightController`` that flies over ROS: a failed solve is
    answered by the same ladder of fallbacks. Where that ends, or the state is not finite, the
    flight ends.

    Args:
        vehicle: The simulated vehicle.
        mpc: The policy, with the weights to fly.
        goal: Where to.
        x0: Initial state, world frame, (12,).
        steps: T.
        flight_number: Selects the vehicle's noise; None: its next one.
        safety: Settings of the ladder; their defaults when None.
        keep_solutions: Whether the flight keeps the MPC's solutions for its derivative.

    Returns:
        The flight, in measured states.
    """
    safety = safety or Safety()
    vehicle.reset(x0, flight_number)
    mpc.reset()
    flight = _fly_solved(vehicle, mpc, goal, steps, safety, keep_solutions)
    if flight is None:
        # The same flight once more, this time with the ladder.
        vehicle.reset(x0, vehicle.flight)
        mpc.reset()
        flight = _fly_guarded(vehicle, mpc, goal, steps, safety, keep_solutions)
    return flight


def _fly_solved(
    vehicle: Vehicle,
    mpc: Mpc | OfflineMpc,
    goal: Goal,
    steps: int,
    safety: Safety,
    keep_solutions: bool,
) -> Flight | None:
    """Fly as long as the controller would solve every state at once, and every solve succeeds.

    That is all of almost every flight, without what the controller has to look after besides.

    Returns:
        The flight; None when the ladder would have been needed.
    """
    lowest, highest, max_tilt = mpc.limits.rotor_min, mpc.limits.rotor_max, safety.max_tilt
    solve, fly, measure = mpc.solve, vehicle.step, vehicle.measure
    states, inputs = np.empty((steps + 1, NX)), np.empty((steps, NU))
    solutions: list[Solution] = []
    states[0] = x = carried(measure())
    for t in range(steps):
        # A state that is not finite is not within the tilt either, or fails to be solved.
        if not (-max_tilt <= x[6] <= max_tilt and -max_tilt <= x[7] <= max_tilt):
            return None
        solution = solve(x, goal)
        if not solution.ok:
            return None
        u = solution.input
        speeds = u.tolist()
        if max(speeds) > highest or min(speeds) < lowest:  # rounding of hover + (limit - hover)
            u = np.clip(u, lowest, highest)
        inputs[t] = u
        if keep_solutions:
            solutions.append(solution)
        fly(u)
        states[t + 1] = x = carried(measure())
    return Flight(
        states, inputs, goal, mpc.model.hover_input, tuple(solutions), planned_steps=steps
    )


def _fly_guarded(
    vehicle: Vehicle,
    mpc: Mpc | OfflineMpc,
    goal: Goal,
    steps: int,
    safety: Safety,
    keep_solutions: bool,
) -> Flight:
    """Fly under the controller and its ladder of fallbacks."""
    # Both kinds of MPC offer what the controller asks of one.
    controller = FlightController(LinearPilot(cast('Mpc', mpc), goal), safety, clock=_stopped_clock)
    time_step = round(vehicle.quadcopter.time_step * 1e9)
    states, inputs = np.empty((steps + 1, NX)), np.empty((steps, NU))
    solutions: list[Solution] = []
    failed: list[int] = []
    flown, ended = steps, ''
    states[0] = carried(vehicle.measure())
    for t in range(steps):
        answer = controller.respond(states[t], t * time_step)
        if answer.command is None:
            flown = t
            ended = f'no command at step {t}: {answer.reason.value} {answer.detail}'.strip()
            break
        inputs[t] = answer.command
        if answer.source is not Source.SOLUTION:
            failed.append(t)
        elif keep_solutions and answer.solution is not None:
            solutions.append(answer.solution)
        vehicle.step(answer.command)
        states[t + 1] = carried(vehicle.measure())
    return Flight(
        states=states[: flown + 1],
        inputs=inputs[:flown],
        goal=goal,
        hover_input=mpc.model.hover_input,
        solutions=tuple(solutions),
        failed_steps=tuple(failed),
        planned_steps=steps,
        ended=ended,
    )


@dataclass(frozen=True)
class Task:
    """A flight's start and goal.

    Attributes:
        goal: Where to.
        start: Initial state, world frame, 12 numbers.
    """

    goal: Goal
    start: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class OfflineFlyer:
    """Flies the requests of a training run by rollout.

    Attributes:
        vehicle: The simulated vehicle.
        mpc: The policy; its parameters become those of the request.
        goal: Where to.
        x0: Initial state, world frame, (12,).
        steps: T.
        safety: Settings of the controller's ladder of fallbacks.
        envelope: Where a flight is cut short.
        tasks: Several starts and goals instead of x0 and goal.
    """

    vehicle: Vehicle
    mpc: OfflineMpc
    goal: Goal
    x0: NDArray[np.float64]
    steps: int
    safety: Safety = field(default_factory=Safety)
    envelope: Envelope = field(default_factory=Envelope)
    tasks: tuple[Task, ...] = ()

    def __call__(self, request: FlightRequest) -> Flight:
        """Fly one request."""
        self.mpc.use(request.parameters)
        goal, x0 = self.goal, self.x0
        if self.tasks:
            task = self.tasks[request.task]
            goal, x0 = task.goal, np.array(task.start)
        flight = rollout(
            self.vehicle,
            self.mpc,
            goal,
            x0,
            self.steps,
            request.number,
            self.safety,
            keep_solutions=request.with_solutions,
        )
        return self.envelope.cut(flight)


def _stopped_clock() -> float:
    """Keep wall-clock time out of a flight that is not flown in it."""
    return 0.0
