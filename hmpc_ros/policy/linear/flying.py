"""Flies the simulated vehicle under the linear MPC, here and now, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from hmpc_ros.plant.kinds import ROTORS
from hmpc_ros.plant.odometry import carried
from hmpc_ros.policy.flight import Flight, closed_loop
from hmpc_ros.policy.flight_controller import FlightController, Safety, Source
from hmpc_ros.policy.linear.pilot import LinearPilot

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hmpc_ros.plant.vehicle import Vehicle
    from hmpc_ros.policy.flight import Answer
    from hmpc_ros.policy.linear.goal import Goal
    from hmpc_ros.policy.linear.mpc import Mpc
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
    """Fly ``steps`` steps from a state (12,) to a goal; the same again for the same arguments.

    The commands are those of the ``FlightController`` that flies over ROS: a failed solve is
    answered by the same ladder of fallbacks. Where that ends, or the state is not finite, the
    flight ends. The flight number selects the vehicle's noise, its next one if None; settings of
    the ladder are the defaults if None.
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
    solve, distrust = mpc.solve, ROTORS.trusted

    def answer(x: NDArray[np.float64], _t: int) -> Answer | str:
        # A state that is not finite is not within the tilt either, or fails to be solved.
        if distrust(x, max_tilt):
            return 'tilted'
        solution = solve(x, goal)
        if not solution.ok:
            return 'not solved'
        u = solution.input
        speeds = u.tolist()
        if max(speeds) > highest or min(speeds) < lowest:  # rounding of hover + (limit - hover)
            u = np.clip(u, lowest, highest)
        return u, solution, False

    flight = _fly(vehicle, mpc, goal, steps, answer, keep_solutions)
    return flight if flight.complete else None


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

    def answer(x: NDArray[np.float64], t: int) -> Answer | str:
        given = controller.respond(x, t * time_step)
        if given.command is None:
            return f'no command at step {t}: {given.reason.value} {given.detail}'.strip()
        return given.command, given.solution, given.source is not Source.SOLUTION

    return _fly(vehicle, mpc, goal, steps, answer, keep_solutions)


def _fly(
    vehicle: Vehicle,
    mpc: Mpc | OfflineMpc,
    goal: Goal,
    steps: int,
    answer: Callable[[NDArray[np.float64], int], Answer | str],
    keep_solutions: bool,
) -> Flight:
    fly, measure = vehicle.step, vehicle.measure

    def advance(_x: NDArray[np.float64], u: NDArray[np.float64], _t: int) -> NDArray[np.float64]:
        fly(u)
        return carried(measure())

    return closed_loop(
        carried(measure()), steps, answer, advance, goal, mpc.model.hover_input,
        keep_solutions=keep_solutions,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rollout:
    """Flies from a state to a goal under the MPC as it is then."""

    vehicle: Vehicle  #: the simulated vehicle
    mpc: OfflineMpc  #: the policy
    steps: int  #: T
    #: settings of the controller's ladder of fallbacks
    safety: Safety = field(default_factory=Safety)

    def __call__(
        self, goal: Goal, start: NDArray[np.float64], number: int, keep_solutions: bool
    ) -> Flight:
        """Fly, see `rollout`."""
        return rollout(
            self.vehicle, self.mpc, goal, start, self.steps, number, self.safety, keep_solutions
        )


def _stopped_clock() -> float:
    """Keep wall-clock time out of a flight that is not flown in it."""
    return 0.0
