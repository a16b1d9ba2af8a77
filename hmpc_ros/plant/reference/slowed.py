"""A reference flown more slowly, on the same path."""

import numpy as np

from hmpc_ros.plant.reference.protocol import Reference, Samples


class Slowed:
    """A reference whose time runs `factor` times as slowly."""

    def __init__(self, reference: Reference, factor: float) -> None:
        self.reference, self.factor = reference, factor
        self.duration = reference.duration * factor

    def sample(self, t: np.ndarray) -> Samples:
        """Return the slowed reference at times (n,) [s]."""
        rate = 1.0 / self.factor
        there = self.reference.sample(t * rate)
        return Samples(
            there.position,
            there.velocity * rate,
            there.acceleration * rate**2,
            there.jerk * rate**3,
            there.yaw,
            there.yaw_rate * rate,
        )
