"""The goal pose, and the frame in which the MPC, the objective and the gradients work."""

import math
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.quadcopter import NX, POSITION, VELOCITY, YAW


@dataclass(frozen=True)
class Goal:
    """A pose to hover at: position (3,) [m] in the world frame and yaw [rad].

    The vehicle's dynamics do not change when the world is shifted or turned about the vertical, so
    the controller works in the *goal frame*: position and velocity relative to the goal and turned
    by ``-yaw``. There the goal is the origin and a model linearised at yaw 0 serves every goal.

    Raises:
        ValueError: the position or yaw is not finite or of the wrong length.
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    def __post_init__(self) -> None:
        """Check, and keep plain floats."""
        position = tuple(float(value) for value in self.position)
        if len(position) != 3 or not all(map(math.isfinite, (*position, self.yaw))):
            raise ValueError(f'goal needs three finite coordinates and a finite yaw, got {self}')
        object.__setattr__(self, 'position', position)
        object.__setattr__(self, 'yaw', float(self.yaw))

    @property
    def state(self) -> np.ndarray:
        """The goal as a state (12,): hovering at the pose."""
        state = np.zeros(NX)
        state[POSITION] = self.position
        state[YAW] = self.yaw
        return state

    @property
    def rotation(self) -> np.ndarray:
        """Derivative (12, 12) of the deviation with respect to the state."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        to_goal = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        rotation = np.eye(NX)
        rotation[POSITION, POSITION] = rotation[VELOCITY, VELOCITY] = to_goal
        return rotation

    def deviation(self, x: np.ndarray) -> np.ndarray:
        """Return states (..., 12) in the goal frame, yaw wrapped to [-pi, pi)."""
        deviation = np.array(x, dtype=float)
        deviation[..., POSITION] -= self.position
        deviation[..., YAW] -= self.yaw
        if self.yaw:
            deviation[..., :6] = deviation[..., :6] @ self.rotation[:6, :6].T
        yaw = deviation[..., YAW]
        # Within a turn nothing is touched, so that yaw 0 stays exact to the last bit.
        if np.any(np.abs(yaw) > math.pi):
            deviation[..., YAW] = (yaw + math.pi) % (2 * math.pi) - math.pi
        return deviation

    def world(self, deviation: np.ndarray) -> np.ndarray:
        """Return states (..., 12) in the world frame: the inverse of `deviation` (up to turns)."""
        x = np.array(deviation, dtype=float)
        if self.yaw:
            x[..., :6] = x[..., :6] @ self.rotation[:6, :6]
        x[..., POSITION] += self.position
        x[..., YAW] += self.yaw
        return x
