"""The convex compact set that theta is kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.policy.linear.weights import N_THETA, P_PART, Q_PART, R_PART

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Box:
    """``lower <= theta <= upper``, entry by entry.

    Attributes:
        lower: (94,).
        upper: (94,).

    Raises:
        ValueError: When a bound is not finite (the set would not be compact) or a side is empty.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ('lower', 'upper'):
            bound = np.array(getattr(self, name), dtype=float)
            if bound.shape != (N_THETA,) or not np.all(np.isfinite(bound)):
                raise ValueError(f"the box's {name} bound must be {N_THETA} finite numbers")
            object.__setattr__(self, name, bound)
        if np.any(self.lower > self.upper):
            raise ValueError('the box is empty: a lower bound exceeds its upper bound')

    @classmethod
    def symmetric(cls, q_max: float, r_max: float, p_max: float) -> Box:
        """Bound the magnitude of each part of theta (only q^2, r^2 and L L' matter)."""
        upper = np.empty(N_THETA)
        upper[Q_PART], upper[R_PART], upper[P_PART] = q_max, r_max, p_max
        return cls(-upper, upper)

    def project(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest point of the box."""
        return np.clip(theta, self.lower, self.upper)

    def refuse_outside(self, theta: NDArray[np.float64]) -> None:
        """Raise ValueError, naming the worst entry, when theta is not in the box."""
        excess = np.maximum(self.lower - theta, theta - self.upper)
        worst = int(np.argmax(excess))
        if not excess[worst] <= 0:
            raise ValueError(
                f'the start weights are outside the box: theta[{worst}] = {theta[worst]:g} is not '
                f'within {self.lower[worst]:g} ... {self.upper[worst]:g}'
            )
