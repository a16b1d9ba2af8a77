"""A reference that begins later."""

import numpy as np

from hmpc_ros.plant.reference.protocol import Reference, Samples


class Delayed:
    """A reference whose time 0 is at `delay` [s]; before that it rests where it begins."""

    def __init__(self, reference: Reference, delay: float) -> None:
        self.reference, self.delay = reference, delay
        self.duration = reference.duration + delay

    def sample(self, t: np.ndarray) -> Samples:
        """Return the delayed reference at times (n,) [s]."""
        return self.reference.sample(t - self.delay)
