"""Staying where one is."""

import math

import numpy as np

from hmpc_ros.plant.reference.protocol import Samples
from hmpc_ros.plant.reference.values import finite, place


class Hover:
    """A pose held for ever: position (3,) [m] in the world frame and yaw [rad].

    Raises:
        ValueError: the position or the yaw is not finite or of the wrong length.
    """

    duration = math.inf

    def __init__(self, position: np.ndarray, yaw: float = 0.0) -> None:
        self.position = place('the hover position', position)
        self.yaw = float(finite('the hover yaw', yaw, ()))

    def sample(self, t: np.ndarray) -> Samples:
        """Return the pose at times (n,)."""
        n = len(t)
        rest = np.zeros((n, 3))
        position = np.tile(self.position, (n, 1))
        return Samples(position, rest, rest, rest, np.full(n, self.yaw), np.zeros(n))
