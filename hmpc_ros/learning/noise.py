"""How noisy flights are, by what the surrogate cannot explain of them.

A vehicle that hovers at its goal hardly changes, and neither do the systematic errors of a
surrogate there: what jumps from step to step at the end of a flight is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.plant.quadcopter import NX

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Share of a flight, at its end, in which the vehicle is to hover, and share of the states' bounds
# within which it does.
HOVERING, CALM = 0.25, 0.5
# Standard deviations below this share of the states' bounds are no noise worth the name.
FLOOR = 1e-4


@dataclass(eq=False)
class ResidualNoise:
    """Noise in the one-step residuals of flights, state by state.

    Attributes:
        variance: Of what jumps from step to step, in the calmest flight, (12,): noise is in every
            flight. Zero before any.
    """

    variance: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NX))

    def learn(self, residuals: NDArray[np.float64]) -> None:
        """Take in the residuals (T, 12) of a flight that ended in hover (`hovers`)."""
        tail = _tail(residuals)
        # Third differences of white noise have 1 + 9 + 9 + 1 times its variance, while those of
        # what oscillates within ten steps or more all but vanish.
        jumps = np.mean(np.diff(tail, n=3, axis=0) ** 2, axis=0) / 20
        self.variance = np.minimum(self.variance, jumps) if self.variance.any() else jumps

    @staticmethod
    def hovers(deviations: NDArray[np.float64], state_max: NDArray[np.float64]) -> bool:
        """Say whether a flight (T+1, 12) ended in hover: well within the bounds of the states."""
        tail = _tail(deviations)[:, NX - len(state_max) :]
        return bool(np.all(np.abs(tail) < CALM * state_max))

    def matters(self, state_max: NDArray[np.float64]) -> bool:
        """Say whether there is noise, given the bounds (9,) of the states 3..11."""
        scale = np.concatenate((np.ones(NX - len(state_max)), state_max))
        return bool(np.any(np.sqrt(self.variance) > FLOOR * scale))


def _tail(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows[-max(4, int(HOVERING * len(rows))) :]
