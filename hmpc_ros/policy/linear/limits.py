"""Bounds of the MPC: rotor speeds (hard) and velocity, attitude and body rates (soft)."""

import math
from dataclasses import dataclass, fields

import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.kinds import SOFT

BOUNDED_STATES = SOFT
N_BOUNDED = SOFT.stop - SOFT.start

# Deviations from here on are none that could be measured, and acados takes them for no bounds.
BEYOND_MEASURE = 1e10

# Soft bounds cost 25 s + 25 s^2 per violated side and stage, s how far beyond: the paper's, where
# nothing else is said (`Weights.slack`).
SLACK_L1 = 25.0
SLACK_L2 = 25.0

_INFINITE_SPEED = 1e5  # rad/s; no rotor turns that fast
_NO_BOUND = 1e4  # m/s, rad, rad/s; as a bound of the MPC the same as none


@dataclass(frozen=True)
class Limits:
    """Bounds in SI units; the defaults are those of the reference experiment.

    The bounds on states are symmetric: ``|x_i| <= x_max,i`` in the goal frame.

    Raises:
        ValueError: a bound is not finite or not positive, or the rotor range is empty.
    """

    rotor_min: float = parameter(0.0, 'lowest rotor speed', 'rad/s', 0.0, _INFINITE_SPEED)
    rotor_max: float = parameter(630.0, 'highest rotor speed', 'rad/s', 0.0, _INFINITE_SPEED)
    velocity: tuple[float, float, float] = parameter(
        (2.0,) * 3, "soft bound of the velocity along the goal frame's axes", 'm/s', 1e-3, _NO_BOUND
    )
    attitude: tuple[float, float, float] = parameter(
        (math.pi / 4,) * 3, 'soft bound of roll, pitch and of yaw from the goal',
        'rad', 1e-3, _NO_BOUND,
    )  # fmt: skip
    rates: tuple[float, float, float] = parameter(
        (math.pi / 8,) * 3, 'soft bound of the body rates', 'rad/s', 1e-3, _NO_BOUND
    )
    position_deviation: float = parameter(  # see `shown`
        10.0,
        'distance from the goal that the MPC is shown at most; a goal further away is flown to '
        'as if it lay so far off in its direction. A nimble vehicle, which a jump of the goal '
        'flips, wants it lower', 'm', 1e-2, 100.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check, and keep plain floats."""
        for bound in fields(self):
            values = np.atleast_1d(np.asarray(getattr(self, bound.name), dtype=float))
            if bound.name.startswith(('rotor', 'position')):
                if values.size != 1 or not np.all(np.isfinite(values)):
                    raise ValueError(f'{bound.name} must be one finite number, got {values}')
                object.__setattr__(self, bound.name, float(values[0]))
                continue
            if values.shape != (3,) or not np.all(np.isfinite(values)) or np.any(values <= 0):
                raise ValueError(f'limits: {bound.name} must be 3 positive numbers, got {values}')
            object.__setattr__(self, bound.name, tuple(float(value) for value in values))
        if not 0 <= self.rotor_min < self.rotor_max:
            raise ValueError(
                f'limits: rotor speeds need 0 <= rotor_min < rotor_max, '
                f'got {self.rotor_min} and {self.rotor_max} rad/s'
            )
        if self.position_deviation <= 0:
            raise ValueError(
                f'limits: position_deviation must be positive, got {self.position_deviation} m'
            )

    @property
    def state_max(self) -> np.ndarray:
        """Bounds (9,) of the states 3..11: velocity, attitude, rates."""
        return np.array([*self.velocity, *self.attitude, *self.rates])

    def shown(self, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the deviation (12,) that the MPC is to see, and what it does not see of it (3,).

        A goal far away is moved along the straight line to the vehicle, until it is
        ``position_deviation`` away: the model is linear, and its plan for a distance that asks for
        large angles flips the vehicle. What is not seen is None where the goal is nearer.
        """
        x, y, z = deviation[:3].tolist()
        distance = math.hypot(x, y, z)
        # What is no distance is left to the solver, which names the failure.
        if not self.position_deviation < distance < BEYOND_MEASURE:
            return deviation, None
        shown = deviation.copy()
        shown[:3] *= self.position_deviation / distance
        return shown, deviation[:3] - shown[:3]

    def input_range(self, hover_input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest input deviation (4,) from hover [rad/s].

        Raises:
            ValueError: hover lies outside the rotor range, so that the vehicle cannot fly.
        """
        if not np.all((self.rotor_min < hover_input) & (hover_input < self.rotor_max)):
            raise ValueError(
                f'hover needs rotor speeds {np.round(hover_input, 2)} rad/s, outside the limits '
                f'{self.rotor_min} .. {self.rotor_max} rad/s: a vehicle that heavy cannot hover'
            )
        return self.rotor_min - hover_input, self.rotor_max - hover_input
