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

from hmpc_ros.policy.flight import closed_loop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.plant.protocol import Predictor
    from hmpc_ros.policy.flight import Answer, Flight
    from hmpc_ros.policy.protocol import DeviationPolicy

# Beyond this in any state (SI units) a rehearsal has run away.
RUNAWAY = 50.0


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What is needed to rehearse a task."""

    predictor: Predictor  #: one step of the surrogate
    start: NDArray[np.float64]  #: initial deviation, (nd,)
    disturbance: NDArray[np.float64]  #: e_t, (T, nd)

    def fly(self, policy: DeviationPolicy, keep_solutions: bool = False) -> Flight:
        """Fly under the policy's present parameters.

        Args:
            policy: The policy.
            keep_solutions: Whether the flight keeps the policy's solutions for its derivative;
                without them it is flown more quickly.

        Returns:
            The flight; its goal is the origin, as its states are deviations. It ends where a solve
            fails or it runs away.
        """
        trim, step, disturbance = policy.trim_input, self.predictor.step, self.disturbance
        first_input, solve = policy.first_input, policy.solve_deviation

        def answer(x: NDArray[np.float64], t: int) -> Answer | str:
            if x.dot(x) < RUNAWAY * RUNAWAY or np.abs(x).max() < RUNAWAY:
                if keep_solutions:
                    solution = solve(x)
                    if solution.ok:
                        return solution.input - trim, solution, False
                elif (u := first_input(x)) is not None:
                    return u, None, False
            return f'no rehearsal beyond step {t}'

        def advance(x: NDArray[np.float64], u: NDArray[np.float64], t: int) -> NDArray[np.float64]:
            return step(x, u) + disturbance[t]

        policy.reset()
        self.predictor.begin()
        return closed_loop(
            self.start, len(disturbance), answer, advance, policy.origin, trim,
            keep_solutions=keep_solutions, deviations=True,
        )  # fmt: skip
