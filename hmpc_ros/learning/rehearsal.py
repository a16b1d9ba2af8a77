"""Rehearsals: flights of the MPC on the surrogate, to try weights before the vehicle flies them.

A rehearsal repeats what the surrogate could not explain of a flight that was flown,

    x_{t+1} = f(x_t, MPC(x_t, theta)) + e_t,             e_t = the flight's one-step residuals

so that with the flight's own weights it *is* that flight, and it tells how the flight would have
changed under others. Where flights are noisy, what could not be explained does not come back:
there e_t = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.flight import Flight
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.linear.goal import Goal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.plant.surrogate import Predictor
    from hmpc_ros.policy.linear.mpc import Solution
    from hmpc_ros.policy.linear.unconstrained import OfflineMpc

ORIGIN = Goal()
# Beyond this in any state (SI units) a rehearsal has run away.
RUNAWAY = 50.0


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What is needed to rehearse a task.

    Attributes:
        predictor: One step of the surrogate.
        start: Initial state in the goal frame, (12,).
        disturbance: e_t, (T, 12).
    """

    predictor: Predictor
    start: NDArray[np.float64]
    disturbance: NDArray[np.float64]

    def fly(self, mpc: OfflineMpc, keep_solutions: bool = False) -> Flight:
        """Fly under the MPC's present weights and model.

        Args:
            mpc: The policy.
            keep_solutions: Whether the flight keeps the MPC's solutions for its derivative; without
                them it is flown more quickly.

        Returns:
            The flight; its goal is the origin, as its states are deviations. It ends where a solve
            fails or it runs away.
        """
        steps, hover = len(self.disturbance), mpc.model.hover_input
        states, inputs = np.empty((steps + 1, NX)), np.empty((steps, NU))
        solutions: list[Solution] = []
        ended, flown = '', steps
        predictor, disturbance = self.predictor, self.disturbance
        plan = mpc.plan() if mpc.shortcut and not keep_solutions else None
        mpc.reset()
        predictor.begin()
        states[0] = x = self.start
        for t in range(steps):
            if plan is not None and plan.holds(x):
                u = plan.first_input(x)
            else:
                solution = mpc.solve_deviation(x)
                if not solution.ok or not np.abs(x).max() < RUNAWAY:
                    flown, ended = t, f'no rehearsal beyond step {t}'
                    break
                u = solution.input - hover
                if keep_solutions:
                    solutions.append(solution)
            inputs[t] = u
            states[t + 1] = x = predictor.step(x, u) + disturbance[t]
        return Flight(
            states=states[: flown + 1],
            inputs=inputs[:flown] + hover,
            goal=ORIGIN,
            hover_input=hover,
            solutions=tuple(solutions),
            planned_steps=steps,
            ended=ended,
        )
