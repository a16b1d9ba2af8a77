"""Where the nose points along a curve."""

import numpy as np


class Fixed:
    """One yaw [rad] all along."""

    def __init__(self, yaw: float = 0.0) -> None:
        self.yaw = float(yaw)

    def __call__(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the yaw and its derivative, each (n,), at (n,)."""
        return np.full(len(phi), self.yaw), np.zeros(len(phi))
