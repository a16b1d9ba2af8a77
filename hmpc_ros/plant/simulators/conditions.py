"""In what a simulated vehicle's truth differs from what its controller knows."""

import copy
import math
from dataclasses import dataclass, field, fields
from typing import Any

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.winds import Wind

_POSITIVE = ('mass_scale', 'thrust_scale', 'inertia_scale')


@dataclass(frozen=True)
class Conditions:
    """Truth over nominal, delays, wind, sensor noise; by default nothing differs.

    Raises:
        ValueError: a value is negative, not finite, or zero where nothing could fly.
    """

    mass_scale: float = parameter(1.0, 'true mass over the nominal one', low=1e-3, high=1e3)
    thrust_scale: float = parameter(
        1.0, 'true thrust and drag torque of the rotors over nominal', low=1e-3, high=1e3
    )
    drag_scale: float = parameter(1.0, 'true drag over the nominal one', low=0.0, high=1e3)
    inertia_scale: float = parameter(1.0, 'true inertia over the nominal one', low=1e-3, high=1e3)
    delay: float = parameter(0.0, 'time before a command reaches the autopilot', 's', 0.0, 1.0)
    measurement_delay: float = parameter(0.0, 'age of what is measured', 's', 0.0, 1.0)
    position_noise_std: float = parameter(0.0, 'standard deviation of measured positions', 'm', 0.0)
    velocity_noise_std: float = parameter(
        0.0, 'standard deviation of measured velocities', 'm/s', 0.0
    )
    attitude_noise_std: float = parameter(
        0.0, 'standard deviation of measured attitude, each axis', 'rad', 0.0
    )
    rates_noise_std: float = parameter(
        0.0, 'standard deviation of measured body rates', 'rad/s', 0.0
    )
    battery_sag: float = parameter(
        0.0, 'share of the thrust that is lost per second', '1/s', 0.0, 1.0
    )
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

    @property
    def told(self) -> str:
        """In words, what differs."""
        differs = [
            f'{each.name} {getattr(self, each.name)}'
            for each in fields(self)
            if each.name != 'wind' and getattr(self, each.name) != each.default
        ]
        if self.wind != Wind():
            differs.append(f'wind {self.wind.kind}')
        return ', '.join(differs) or 'as its controller knows it'

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
