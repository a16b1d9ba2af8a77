"""How much of what the surrogate cannot explain of a flight is noise, and will not come back.

A vehicle that hovers at its goal hardly changes, and neither do the systematic errors of a
surrogate there: what jumps from step to step at the end of a flight is noise. Its share of the
residuals of whole flights is what a rehearsal leaves out.
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
# How much a flight counts that is one flight older.
FORGETTING = 0.7
# Noise may be so many times what it was estimated to be: better to leave out too much than to keep
# noise for a property of the vehicle.
DOUBT = 1.5
# Standard deviations below this share of the states' bounds are no noise worth the name.
FLOOR = 1e-4


@dataclass
class ResidualNoise:
    """Mean squares of the residuals of flights, state by state.

    Attributes:
        noise: Of the part that jumps from step to step, in the calmest flight, (12,): noise is in
            every flight.
        total: Of all, discounted, (12,).
    """

    noise: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NX))
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NX))

    def learn(self, residuals: NDArray[np.float64]) -> None:
        """Take in the residuals (T, 12) of a flight that ended in hover (`hovers`)."""
        tail = _tail(residuals)
        # Third differences of white noise have 1 + 9 + 9 + 1 times its variance, while those of
        # what oscillates within ten steps or more all but vanish.
        jumps = np.mean(np.diff(tail, n=3, axis=0) ** 2, axis=0) / 20
        self.noise = np.minimum(self.noise, jumps) if self.total.any() else jumps
        self.total = FORGETTING * self.total + (1 - FORGETTING) * np.mean(residuals**2, axis=0)

    @staticmethod
    def hovers(deviations: NDArray[np.float64], state_max: NDArray[np.float64]) -> bool:
        """Say whether a flight (T+1, 12) ended in hover: well within the bounds of the states."""
        tail = _tail(deviations)[:, NX - len(state_max) :]
        return bool(np.all(np.abs(tail) < CALM * state_max))

    def matters(self, state_max: NDArray[np.float64]) -> bool:
        """Say whether there is noise, given the bounds (9,) of the states 3..11."""
        scale = np.concatenate((np.ones(NX - len(state_max)), state_max))
        return bool(np.any(np.sqrt(self.noise) > FLOOR * scale))

    @property
    def lasting_share(self) -> NDArray[np.float64]:
        """Share of the residuals that is no noise, 0 ... 1, (12,)."""
        return np.clip(1.0 - DOUBT * self.noise / np.maximum(self.total, 1e-300), 0.0, 1.0)


def _tail(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows[-max(4, int(HOVERING * len(rows))) :]
