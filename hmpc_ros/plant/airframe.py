"""What an autopilot knows of its vehicle: mass, inertia, and where its rotors are and what they do.

Body frame FLU. The thrust of a rotor is ``thrust_coefficient * speed^2`` along z, its drag torque
``direction * torque_coefficient * speed^2`` about z (direction 1: pushes the nose to the left).
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from hmpc_ros.plant.quadcopter import FRAMES
from hmpc_ros.plant.rigid_body import GRAVITY


def frame_positions(frame: str, arm_length: float) -> tuple[tuple[float, float, float], ...]:
    """Return where four rotors are [m]: front, right, back, left, the frame "x" turned by +45 deg.

    Seen from above they go round clockwise, beginning in front ("plus") or front left ("x").

    Raises:
        ValueError: the frame is neither.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame '{frame}' is unknown: use one of {', '.join(FRAMES)}")
    start = math.pi / 4 if frame == 'x' else 0.0
    angles = [start - k * math.pi / 2 for k in range(4)]
    return tuple((arm_length * math.cos(a), arm_length * math.sin(a), 0.0) for a in angles)


@dataclass(frozen=True)
class Airframe:
    """Nominal constants of a vehicle with four rotors.

    Raises:
        ValueError: a constant is not finite or unphysical, or the rotors do not share the thrust
            equally when no torque is asked for.
    """

    mass: float  # kg
    inertia: tuple[float, float, float]  # kg m^2, about x, y, z
    rotor_positions: tuple[tuple[float, float, float], ...]  # (4, 3) m, from the centre of mass
    rotor_directions: tuple[float, ...]  # (4,) 1 or -1: sign of the drag torque about z
    thrust_coefficient: float  # N s^2
    torque_coefficient: float  # N m s^2
    rotor_speed_min: float  # rad/s
    rotor_speed_max: float  # rad/s
    motor_time_constant: float  # s, first-order lag of the rotor speed

    def __post_init__(self) -> None:
        """Refuse what cannot fly."""
        lengths = {'inertia': (3,), 'rotor_positions': (4, 3), 'rotor_directions': (4,)}
        for field in fields(self):
            values = np.asarray(getattr(self, field.name), dtype=float)
            if values.shape != lengths.get(field.name, ()):
                raise ValueError(
                    f'{field.name} needs the shape {lengths.get(field.name, ())}, '
                    f'got {values.shape}'
                )
            positive = field.name not in ('rotor_positions', 'rotor_directions', 'rotor_speed_min')
            if not np.all(np.isfinite(values)) or (positive and np.any(values <= 0)):
                raise ValueError(f'{field.name} = {values} must be finite and positive')
            plain: Any = _plain(values)  # hashable whatever came in
            object.__setattr__(self, field.name, plain)
        if not 0 <= self.rotor_speed_min < self.rotor_speed_max:
            raise ValueError(
                f'rotor_speed_min = {self.rotor_speed_min} must be at least 0 and below '
                f'rotor_speed_max = {self.rotor_speed_max}'
            )
        if any(abs(direction) != 1 for direction in self.rotor_directions):
            raise ValueError(f'rotor_directions = {self.rotor_directions} must be 1 or -1 each')
        if np.linalg.matrix_rank(self.allocation) < 4:
            raise ValueError('these rotors cannot make thrust and three torques independently')
        if not np.allclose(self.allocation_inverse[:, 0], 0.25, atol=1e-6):
            raise ValueError(
                'these rotors would not share the thrust equally; the mixer is made for frames '
                'that are symmetric about the centre of mass'
            )

    @cached_property
    def allocation(self) -> np.ndarray:
        """Matrix (4, 4) from rotor thrusts [N] to thrust [N] and torques about x, y, z [N m]."""
        x, y, _ = np.array(self.rotor_positions).T
        yaw = np.array(self.rotor_directions) * self.torque_coefficient / self.thrust_coefficient
        return np.array([np.ones(4), y, -x, yaw])

    @cached_property
    def allocation_inverse(self) -> np.ndarray:
        """Matrix (4, 4) from thrust and torques to rotor thrusts."""
        return np.linalg.inv(self.allocation)

    @property
    def hover_speed(self) -> float:
        """Rotor speed [rad/s] at which four rotors carry the weight."""
        return math.sqrt(self.mass * GRAVITY / (4 * self.thrust_coefficient))

    @property
    def max_thrust(self) -> float:
        """Thrust over mass [m/s^2] of four rotors at full speed."""
        return 4 * self.thrust_coefficient * self.rotor_speed_max**2 / self.mass

    @property
    def min_thrust(self) -> float:
        """Thrust over mass [m/s^2] of four rotors at their lowest speed."""
        return 4 * self.thrust_coefficient * self.rotor_speed_min**2 / self.mass


def _plain(values: np.ndarray) -> Any:
    if values.ndim == 0:
        return float(values)
    return tuple(_plain(value) for value in values)
