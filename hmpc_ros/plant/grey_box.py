r"""What a vehicle under its autopilot is to a controller: a few numbers with names.

    v' = -g e3 + k_T a R e3 - R D R' v + d         a: commands through a first-order lag
    b2 w'' + b1 w' + w = w_c                       b1: the lag, b2 = shape * b1^2

each axis of the rates on its own, all commands late by one delay. A shape near 0 is a first-order
lag, 1/4 two equal ones in a row (a rate loop on motors as slow as itself), more of it overshoots.
Linear in its inputs, so that it is sampled exactly at any step.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.linalg import expm


def _entry(size: int, unit: str, low: float, high: float, doubt: float) -> dict[str, Any]:
    return {'size': size, 'unit': unit, 'low': low, 'high': high, 'doubt': doubt}


#: By name: entries, unit, range, and how far a vehicle may be from what is assumed (one standard
#: deviation of the prior).
PARAMETERS = {
    'thrust_gain': _entry(1, '1', 0.2, 5.0, 0.3),
    'drag': _entry(3, '1/s', 0.0, 5.0, 0.3),
    'disturbance': _entry(3, 'm/s^2', -8.0, 8.0, 1.0),
    'thrust_lag': _entry(1, 's', 1e-3, 0.5, 0.03),
    'rate_lags': _entry(3, 's', 1e-3, 0.5, 0.05),
    'rate_shapes': _entry(3, '1', 0.01, 1.0, 0.2),
    'delay': _entry(1, 's', 0.0, 0.15, 0.02),
}


@dataclass(frozen=True)
class GreyBox:
    """A vehicle's numbers; world frame ENU, body axes FLU, accelerations per nominal mass.

    Raises:
        ValueError: a number is not finite or outside its range.
    """

    thrust_gain: float = 1.0  # thrust acceleration had for that commanded
    drag: tuple[float, float, float] = (0.0, 0.0, 0.0)  # 1/s, body axes
    disturbance: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m/s^2, world frame
    thrust_lag: float = 0.05  # s
    rate_lags: tuple[float, float, float] = (0.1, 0.1, 0.2)  # s
    rate_shapes: tuple[float, float, float] = (0.1, 0.1, 0.1)
    delay: float = 0.0  # s

    def __post_init__(self) -> None:
        """Check every number."""
        for name, about in PARAMETERS.items():
            values = np.array(getattr(self, name), dtype=float).reshape(-1)
            low, high = about['low'], about['high']
            if values.size != about['size'] or not ((values >= low) & (values <= high)).all():
                raise ValueError(
                    f'{name} = {getattr(self, name)} must be {about["size"]} numbers within '
                    f'{low} .. {high} {about["unit"]}'
                )
            plain: Any = tuple(values.tolist()) if about['size'] > 1 else float(values[0])
            object.__setattr__(self, name, plain)

    @property
    def vector(self) -> np.ndarray:
        """All numbers (15,), in the order of `PARAMETERS`."""
        return np.concatenate([np.atleast_1d(getattr(self, f.name)) for f in fields(self)])

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> 'GreyBox':
        """Name the numbers of a vector (15,)."""
        named: dict[str, Any] = {name: vector[part] for name, part in SLICES.items()}
        return cls(**named)


def _slices() -> dict[str, slice]:
    slices, start = {}, 0
    for name, about in PARAMETERS.items():
        slices[name] = slice(start, start + about['size'])
        start += about['size']
    return slices


#: Where each parameter lies in a vector.
SLICES = _slices()
NAMES = tuple(
    name if about['size'] == 1 else f'{name}.{axis}'
    for name, about in PARAMETERS.items()
    for axis in 'xyz'[: about['size']]
)
LOW, HIGH, DOUBT = (
    np.concatenate([np.full(about['size'], about[key]) for about in PARAMETERS.values()])
    for key in ('low', 'high', 'doubt')
)


def rate_response(lag: float, shape: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return A (2, 2) and B (2,) of (w, w') over a step [s] under a constant rate command."""
    stiffness = 1 / (shape * lag**2)
    system = np.zeros((3, 3))
    system[0, 1] = 1.0
    system[1] = -stiffness, -lag * stiffness, stiffness
    sampled = expm(step * system)
    return sampled[:2, :2], sampled[:2, 2]
