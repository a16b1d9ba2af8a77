"""Whether a vehicle can fly a reference at all, in numbers."""

import math
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.reference.flatness import FlatModel, flat_states
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.reference.slowed import Slowed

_STEP = 0.01  # s
_MOST_SAMPLES = 50_000
_SLOWEST = 50.0  # a path to be flown more slowly than this is a mistake


@dataclass(frozen=True, eq=False)
class Envelope:
    """What a vehicle can do."""

    a_min: float = 0.0  # m/s^2, least thrust acceleration
    a_max: float = math.inf  # m/s^2
    rates_max: tuple[float, ...] | np.ndarray = (math.inf,) * 3  # rad/s, roll, pitch, yaw
    speed_max: float = math.inf  # m/s
    tilt_max: float = math.inf  # rad


@dataclass(frozen=True)
class Feasibility:
    """The peaks of a reference beside the limits of a vehicle."""

    speed: float  # m/s
    thrust: tuple[float, float]  # m/s^2, least and most
    tilt: float  # rad
    rates: tuple[float, ...]  # rad/s, roll, pitch, yaw
    envelope: Envelope

    @property
    def excesses(self) -> list[str]:
        """What is beyond the limits, each with its numbers; empty if nothing is."""
        limits = self.envelope
        rows = [
            ('speed', self.speed, limits.speed_max, 'm/s'),
            ('tilt', math.degrees(self.tilt), math.degrees(limits.tilt_max), 'deg'),
            ('thrust', self.thrust[1], limits.a_max, 'm/s^2'),
        ]
        axes = ('roll', 'pitch', 'yaw')
        for axis, rate, most in zip(axes, self.rates, limits.rates_max, strict=True):
            rows.append((f'{axis} rate', rate, float(most), 'rad/s'))
        # Not `value > most`: what is not a number is beyond every limit.
        found = [
            f'{name} {value:.2f} {unit} (at most {most:.2f})'
            for name, value, most, unit in rows
            if not value <= most * (1 + 1e-9)
        ]
        if not self.thrust[0] >= limits.a_min - 1e-9:
            found.append(f'thrust {self.thrust[0]:.2f} m/s^2 (at least {limits.a_min:.2f})')
        return found

    @property
    def ok(self) -> bool:
        """Whether the vehicle can fly it."""
        return not self.excesses

    def __str__(self) -> str:
        rates = ', '.join(f'{rate:.2f}' for rate in self.rates)
        return (
            f'up to {self.speed:.2f} m/s, tilt {math.degrees(self.tilt):.1f} deg, '
            f'thrust {self.thrust[0]:.2f} to {self.thrust[1]:.2f} m/s^2, '
            f'body rates up to ({rates}) rad/s'
        )


def check(reference: Reference, model: FlatModel, envelope: Envelope) -> Feasibility:
    """Return what a reference asks of a vehicle, by flatness, sampled every 10 ms.

    Args:
        reference: the path.
        model: thrust gain, drag and disturbance of the vehicle.
        envelope: its limits.
    """
    end = reference.duration if math.isfinite(reference.duration) else 0.0
    count = min(int(end / _STEP) + 2, _MOST_SAMPLES)
    samples = reference.sample(np.linspace(0.0, end, count))
    states, inputs = flat_states(samples, model)
    lying = states[:, 7] ** 2 + states[:, 8] ** 2  # R33 = 1 - 2 (qx^2 + qy^2)
    return Feasibility(
        float(np.linalg.norm(samples.velocity, axis=1).max()),
        (float(inputs[:, 0].min()), float(inputs[:, 0].max())),
        float(np.arccos(np.clip(1.0 - 2.0 * lying.max(), -1.0, 1.0))),
        tuple(np.abs(inputs[:, 1:]).max(axis=0).tolist()),
        envelope,
    )


def feasible(
    reference: Reference, model: FlatModel, envelope: Envelope, infeasible: str = 'refuse'
) -> tuple[Reference, Feasibility]:
    """Return a reference that the vehicle can fly, and what it asks of the vehicle.

    Args:
        reference: the path.
        model: thrust gain, drag and disturbance of the vehicle.
        envelope: its limits.
        infeasible: `refuse` what is beyond the limits, or `slow` it down by as much as is needed,
            to about 1 %.

    Raises:
        ValueError: it is beyond the limits and to be refused, or cannot be flown at any pace.
    """
    if infeasible not in ('refuse', 'slow'):
        raise ValueError(f'reference.infeasible must be refuse or slow, got {infeasible!r}')
    found = check(reference, model, envelope)
    if found.ok:
        return reference, found
    if infeasible == 'refuse':
        raise ValueError(
            f'the vehicle cannot fly this reference: {"; ".join(found.excesses)}. Make it slower '
            'or smaller, or set reference.infeasible to slow'
        )
    low, high = 1.0, _SLOWEST
    slowest = check(Slowed(reference, high), model, envelope)
    if not slowest.ok:
        raise ValueError(
            f'the vehicle cannot fly this reference, not even {high:g} times as slowly: '
            f'{"; ".join(slowest.excesses)}'
        )
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if check(Slowed(reference, middle), model, envelope).ok:
            high = middle
        else:
            low = middle
    slowed = Slowed(reference, high)
    return slowed, check(slowed, model, envelope)
