"""How noisy flights are, by what the surrogate cannot explain of them.

A vehicle that hovers at its goal hardly changes, and neither do the systematic errors of a
surrogate there: what jumps from step to step at the end of a flight is noise. Where flights do not
end in hover, two of them under the same weights have the same systematic errors: what jumps in
their difference is noise, twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Share of a flight, at its end, in which the vehicle is to hover, and share of the states' bounds
# within which it does.
HOVERING, CALM = 0.25, 0.5
# Standard deviations below this share of the states' bounds are no noise worth the name.
FLOOR = 1e-4


@dataclass(eq=False)
class ResidualNoise:
    """Noise in the one-step residuals of flights, state by state."""

    #: of what jumps from step to step, in the calmest flight, (nd,): noise is in every flight.
    #: Infinite before any
    variance: NDArray[np.float64] = field(default_factory=lambda: np.array(np.inf))

    @property
    def known(self) -> bool:
        """Whether anything was learned."""
        return bool(np.isfinite(self.variance).all())

    def learn(self, residuals: NDArray[np.float64]) -> None:
        """Take in the residuals (T, nd) of a flight that ended in hover (`hovers`)."""
        self.variance = np.minimum(self.variance, _jumps(_tail(residuals)))

    def compare(self, residuals: NDArray[np.float64], again: NDArray[np.float64]) -> None:
        """Take in the residuals (T, nd) of two whole flights under the same weights."""
        self.variance = np.minimum(self.variance, _jumps(residuals - again) / 2)

    @staticmethod
    def hovers(deviations: NDArray[np.float64], state_max: NDArray[np.float64]) -> bool:
        """Say whether a flight (T+1, nd) ended in hover: well within the bounds of the states."""
        tail = _tail(deviations)[:, deviations.shape[1] - len(state_max) :]
        return bool(np.all(np.abs(tail) < CALM * state_max))

    def matters(self, state_max: NDArray[np.float64]) -> bool:
        """Say whether there is noise, given the bounds of the last states."""
        if not self.known:
            return False
        scale = np.concatenate((np.ones(self.variance.size - len(state_max)), state_max))
        return bool(np.any(np.sqrt(self.variance) > FLOOR * scale))


def _jumps(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of what is white in rows (T, nd), column by column."""
    # Third differences of white noise have 1 + 9 + 9 + 1 times its variance, while those of what
    # oscillates within ten steps or more all but vanish.
    return np.asarray(np.mean(np.diff(rows, n=3, axis=0) ** 2, axis=0) / 20)


def _tail(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows[-max(4, int(HOVERING * len(rows))) :]
