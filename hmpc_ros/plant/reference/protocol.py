"""What every reference offers."""

from typing import NamedTuple, Protocol

import numpy as np


class Samples(NamedTuple):
    """A reference at n times, in the world frame (ENU)."""

    position: np.ndarray  # (n, 3) m
    velocity: np.ndarray  # (n, 3) m/s
    acceleration: np.ndarray  # (n, 3) m/s^2
    jerk: np.ndarray  # (n, 3) m/s^3
    yaw: np.ndarray  # (n,) rad, counted through turns: never wrapped
    yaw_rate: np.ndarray  # (n,) rad/s


class Reference(Protocol):
    """A path over time: a pure function, at rest before 0 and from `duration` on."""

    @property
    def duration(self) -> float:
        """Time [s] from which on the reference hovers where it ended; infinite for a hover."""
        ...

    def sample(self, t: np.ndarray) -> Samples:
        """Return the reference at times (n,) [s], which may lie outside [0, duration]."""
        ...
