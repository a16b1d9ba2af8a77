"""RotorPy's multirotor as physics: its own derivative, integrated with a fixed step."""

from typing import Any

import numpy as np

from hmpc_ros.plant.presets import ROTORPY_MISSING
from hmpc_ros.plant.rigid_body import NX, POSITION, QUATERNION, RATES, VELOCITY

_WIND = slice(13, 16)
_ROTORS = slice(16, 20)
# RotorPy writes quaternions (x, y, z, w).
_TO_ROTORPY, _FROM_ROTORPY = [1, 2, 3, 0], [3, 0, 1, 2]


class RotorpyPhysics:
    """`rotorpy.vehicles.multirotor.Multirotor` under rotor speeds.

    RotorPy's own ``step`` chooses its step by itself and takes 1 ms however short it is; the
    midpoint rule at 2 ms gives the same flight and takes an eighth of that.
    """

    def __init__(self, constants: dict[str, Any], step: float) -> None:
        """Build the vehicle from RotorPy's constants (``quad_params``), the true ones.

        Raises:
            ValueError: RotorPy is not installed.
        """
        try:
            from rotorpy.vehicles.multirotor import Multirotor
        except ImportError as error:
            raise ValueError(f'{ROTORPY_MISSING} ({error})') from error
        self.vehicle = Multirotor(constants)
        self._step = step
        self._thrust, self._torque = self.vehicle.k_eta, self.vehicle.k_m
        self._state = np.zeros(20)

    def reset(self, x0: np.ndarray, rotor_speed: float) -> None:
        """Begin at a state (13,), all rotors at one speed [rad/s]."""
        s = np.zeros(20)
        s[POSITION], s[VELOCITY], s[RATES] = x0[POSITION], x0[VELOCITY], x0[RATES]
        s[QUATERNION] = x0[QUATERNION][_TO_ROTORPY]
        s[_ROTORS] = rotor_speed
        self._state = s

    def state(self) -> np.ndarray:
        """Return the state (13,), a new array."""
        x = self._state[:NX].copy()
        x[QUATERNION] = x[QUATERNION][_FROM_ROTORPY]
        return x

    def advance(self, rotor_speeds: np.ndarray, wind: np.ndarray, thrust_scale: float) -> None:
        """Go one step on under commanded rotor speeds (4,) [rad/s] and wind (3,) [m/s]."""
        vehicle, h, s = self.vehicle, self._step, self._state
        vehicle.k_eta, vehicle.k_m = thrust_scale * self._thrust, thrust_scale * self._torque
        s[_WIND] = wind
        middle = s + h / 2 * vehicle._s_dot_fn(0.0, s, rotor_speeds)
        s = s + h * vehicle._s_dot_fn(0.0, middle, rotor_speeds)
        s[QUATERNION] /= np.linalg.norm(s[QUATERNION])
        self._state = s
