"""The goal pose, and the frame in which the MPC, the objective and the gradients work."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.quadcopter import NX, POSITION, VELOCITY, YAW

# m; the world frame is a plane: 5 km from its origin the Earth has curved 2 m away from it.
_WORLD = 5000.0
_TURNS = 1000.0  # rad; a heading repeats itself


@dataclass(frozen=True)
class Goal:
    """A pose to hover at: position (3,) [m] in the world frame and yaw [rad].

    The vehicle's dynamics do not change when the world is shifted or turned about the vertical, so
    the controller works in the *goal frame*: position and velocity relative to the goal and turned
    by ``-yaw``. There the goal is the origin and a model linearised at yaw 0 serves every goal.

    Raises:
        ValueError: the position or yaw is not finite or of the wrong length.
    """

    position: tuple[float, float, float] = parameter(
        (0.0, 0.0, 0.0), 'where to hover, world frame', 'm', -_WORLD, _WORLD
    )
    yaw: float = parameter(0.0, 'heading to hover at', 'rad', -_TURNS, _TURNS)

    def __post_init__(self) -> None:
        """Check, and keep plain floats."""
        position = tuple(float(value) for value in self.position)
        if len(position) != 3 or not all(map(math.isfinite, (*position, self.yaw))):
            raise ValueError(f'goal needs three finite coordinates and a finite yaw, got {self}')
        object.__setattr__(self, 'position', position)
        object.__setattr__(self, 'yaw', float(self.yaw))

    @cached_property
    def state(self) -> np.ndarray:
        """The goal as a state (12,): hovering at the pose; read-only."""
        state = np.zeros(NX)
        state[POSITION] = self.position
        state[YAW] = self.yaw
        state.setflags(write=False)
        return state

    @cached_property
    def rotation(self) -> np.ndarray:
        """Derivative (12, 12) of the deviation with respect to the state."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        to_goal = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        rotation = np.eye(NX)
        rotation[POSITION, POSITION] = rotation[VELOCITY, VELOCITY] = to_goal
        rotation.setflags(write=False)
        return rotation

    def deviation(self, x: np.ndarray) -> np.ndarray:
        """Return states (..., 12) in the goal frame, yaw wrapped to [-pi, pi)."""
        deviation = x - self.state
        if self.yaw:
            deviation[..., :6] = deviation[..., :6] @ self.rotation[:6, :6].T
        # Within a turn nothing is touched, so that yaw 0 stays exact to the last bit. A single
        # state takes the quick way: the controller comes here at every step.
        single = deviation.ndim == 1
        yaw = deviation.item(YAW) if single else np.abs(deviation[..., YAW]).max(initial=0.0)
        if not -math.pi <= yaw <= math.pi:
            with np.errstate(invalid='ignore'):  # infinity becomes NaN: not finite either
                wrapped = (deviation[..., YAW] + math.pi) % (2 * math.pi) - math.pi
            deviation[..., YAW] = wrapped
        return deviation

    def world(self, deviation: np.ndarray) -> np.ndarray:
        """Return states (..., 12) in the world frame: the inverse of `deviation` (up to turns)."""
        x = np.array(deviation, dtype=float)
        if self.yaw:
            x[..., :6] = x[..., :6] @ self.rotation[:6, :6]
        x[..., POSITION] += self.position
        x[..., YAW] += self.yaw
        return x
