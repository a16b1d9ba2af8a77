"""In what a simulated vehicle's truth differs from what its controller knows."""

import copy
import math
from dataclasses import dataclass, field, fields
from typing import Any

from hmpc_ros.plant.winds import Wind

_POSITIVE = ('mass_scale', 'thrust_scale', 'inertia_scale')


@dataclass(frozen=True)
class Conditions:
    """Truth over nominal, delays, wind, sensor noise; by default nothing differs.

    Raises:
        ValueError: a value is negative, not finite, or zero where nothing could fly.
    """

    mass_scale: float = 1.0
    thrust_scale: float = 1.0  # thrust and drag torque of the rotors
    drag_scale: float = 1.0
    inertia_scale: float = 1.0
    delay: float = 0.0  # s, before a command reaches the autopilot
    measurement_delay: float = 0.0  # s, age of what is measured
    position_noise_std: float = 0.0  # m, per axis
    velocity_noise_std: float = 0.0  # m/s
    attitude_noise_std: float = 0.0  # rad
    rates_noise_std: float = 0.0  # rad/s
    battery_sag: float = 0.0  # 1/s, share of the thrust that is lost per second
    wind: Wind = field(default_factory=Wind)

    def __post_init__(self) -> None:
        """Check every number."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == 'wind':
                continue
            positive = each.name in _POSITIVE
            if not math.isfinite(value) or value < 0 or (positive and value == 0):
                bound = 'positive' if positive else 'not negative'
                raise ValueError(f'{each.name} = {value} must be finite and {bound}')

    def applied_to(self, constants: dict[str, Any]) -> dict[str, Any]:
        """Return the true constants of a vehicle (RotorPy's names) from its nominal ones."""
        true = copy.deepcopy(constants)
        scales = {'mass': self.mass_scale, 'k_eta': self.thrust_scale, 'k_m': self.thrust_scale}
        scales |= dict.fromkeys(('Ixx', 'Iyy', 'Izz', 'Ixy', 'Ixz', 'Iyz'), self.inertia_scale)
        scales |= dict.fromkeys(('k_d', 'k_z', 'c_Dx', 'c_Dy', 'c_Dz'), self.drag_scale)
        for name, scale in scales.items():
            if name in true:
                true[name] = true[name] * scale
        return true
