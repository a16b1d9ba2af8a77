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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.plant.protocol import Predictor
    from hmpc_ros.policy.protocol import Policy, Solution

# Beyond this in any state (SI units) a rehearsal has run away.
RUNAWAY = 50.0


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What is needed to rehearse a task.

    Attributes:
        predictor: One step of the surrogate.
        start: Initial deviation, (nd,).
        disturbance: e_t, (T, nd).
    """

    predictor: Predictor
    start: NDArray[np.float64]
    disturbance: NDArray[np.float64]

    def fly(self, policy: Policy, keep_solutions: bool = False) -> Flight:
        """Fly under the policy's present parameters.

        Args:
            policy: The policy.
            keep_solutions: Whether the flight keeps the policy's solutions for its derivative;
                without them it is flown more quickly.

        Returns:
            The flight; its goal is the origin, as its states are deviations. It ends where a solve
            fails or it runs away.
        """
        steps, hover = len(self.disturbance), policy.hover_input
        states, inputs = np.empty((steps + 1, len(self.start))), np.empty((steps, len(hover)))
        solutions: list[Solution] = []
        ended, flown = '', steps
        predictor, disturbance = self.predictor, self.disturbance
        policy.reset()
        predictor.begin()
        states[0] = x = self.start
        for t in range(steps):
            u = None
            if x.dot(x) < RUNAWAY * RUNAWAY or np.abs(x).max() < RUNAWAY:
                if keep_solutions:
                    solution = policy.solve_deviation(x)
                    solutions.append(solution)
                    u = solution.input - hover if solution.ok else None
                else:
                    u = policy.first_input(x)
            if u is None:
                flown, ended = t, f'no rehearsal beyond step {t}'
                break
            inputs[t] = u
            states[t + 1] = x = predictor.step(x, u) + disturbance[t]
        return Flight(
            states=states[: flown + 1],
            inputs=inputs[:flown] + hover,
            goal=policy.origin,
            hover_input=hover,
            solutions=tuple(solutions[:flown]),
            planned_steps=steps,
            ended=ended,
        )
