"""Winds that blow at simulated vehicles: constant, sinusoidal, turbulent; seeded."""

import math
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.declared import parameter

KINDS = ('none', 'constant', 'sinusoid', 'dryden')


@dataclass(frozen=True)
class Wind:
    """What blows, in the world frame.

    Raises:
        ValueError: the kind is unknown or a number is not finite, negative where that has no
            sense, or of no effect.
    """

    kind: str = parameter('none', 'what blows', choices=KINDS)
    mean: tuple[float, float, float] = parameter((0.0, 0.0, 0.0), 'mean wind, world frame', 'm/s')
    amplitude: tuple[float, float, float] = parameter(
        (1.0, 1.0, 1.0), 'of a sinusoid about the mean', 'm/s'
    )
    frequency: float = parameter(1.0, 'of a sinusoid', 'Hz', 1e-6, 1e3)
    intensity: tuple[float, float, float] = parameter(
        (1.0, 1.0, 1.0), 'standard deviation of gusts (dryden)', 'm/s', 0.0
    )
    altitude: float = parameter(
        2.0, 'height for which gusts are made: how long they are', 'm', 1e-3
    )

    def __post_init__(self) -> None:
        """Check every field."""
        if self.kind not in KINDS:
            raise ValueError(f"wind kind '{self.kind}' is unknown: use one of {', '.join(KINDS)}")
        for name in ('mean', 'amplitude', 'intensity'):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != (3,) or not np.all(np.isfinite(values)):
                raise ValueError(f'wind {name} = {getattr(self, name)} must be 3 finite numbers')
            object.__setattr__(self, name, tuple(float(v) for v in values))
        if min(self.intensity) < 0:
            raise ValueError(f'wind intensity = {self.intensity} must not be negative')
        for name in ('frequency', 'altitude'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f'wind {name} = {value} must be positive and finite')
        if self.kind == 'none' and any(self.mean):
            raise ValueError(
                f"wind mean = {self.mean} has no effect with the kind 'none': choose constant, "
                'sinusoid or dryden'
            )


class WindSource:
    """The wind of one flight, sampled step by step."""

    def __init__(self, wind: Wind, step: float, rng: np.random.Generator) -> None:
        """Begin at time 0; gusts begin in their stationary state."""
        self.wind = wind
        self._mean = np.array(wind.mean)
        self._step = step
        self._time = 0.0
        self._gusts = Gusts(wind, step, rng) if wind.kind == 'dryden' else None

    def next(self) -> np.ndarray:
        """Return the wind (3,) [m/s] now, and go one step on."""
        now = self._mean
        if self.wind.kind == 'sinusoid':
            turn = 2 * math.pi * self.wind.frequency * self._time
            now = now + np.array(self.wind.amplitude) * math.sin(turn)
        elif self._gusts is not None:
            now = now + self._gusts.next()
        self._time += self._step
        return now


class Gusts:
    r"""Dryden turbulence on three axes, sampled exactly at any step.

    Each axis is white noise through ``(1 + sqrt(3) T s) / (1 + T s)^2`` with T = 2 L / V, lengths
    by the low-altitude model of MIL-HDBK-1797, V the mean wind's speed but at least 1 m/s. As

        sqrt(3) / (1 + T s)  +  (1 - sqrt(3)) / (1 + T s)^2

    it is two first-order lags in a row, x1 and x2, whose stationary covariance is
    ``P11 [[1, 1/2], [1/2, 1/2]]``; the output's variance is 2 P11. RotorPy's class has the same
    filter, but draws from the global generator, needs PyTorch and is scaled otherwise.
    """

    def __init__(self, wind: Wind, step: float, rng: np.random.Generator) -> None:
        """Draw the state that gusts have at any time."""
        height = 3.281 * wind.altitude  # ft
        along = height / (0.177 + 0.000823 * height) ** 1.2
        speed = max(1.0, float(np.linalg.norm(wind.mean)))
        time = 2 * np.array([along, along, height]) / 3.281 / speed
        keep = np.exp(-step / time)
        self._rng = rng
        self._intensity = np.array(wind.intensity)
        # By axis; P11 = 1/2, so that the intensity is the standard deviation.
        stationary = np.array([[0.5, 0.25], [0.25, 0.25]])
        self._go_on = np.zeros((3, 2, 2))
        self._go_on[:, 0, 0] = self._go_on[:, 1, 1] = keep
        self._go_on[:, 1, 0] = step / time * keep
        added = stationary - self._go_on @ stationary @ self._go_on.transpose(0, 2, 1)
        # Nearly singular for short steps: a square root that rounding cannot break.
        powers, axes = np.linalg.eigh(added)
        self._spread = axes * np.sqrt(np.maximum(powers, 0.0))[:, None, :]
        self._state = rng.standard_normal((3, 2)) @ np.linalg.cholesky(stationary).T

    def next(self) -> np.ndarray:
        """Return the gust (3,) [m/s] now, and go one step on."""
        root = math.sqrt(3)
        now = self._intensity * (self._state @ np.array([root, 1 - root]))
        noise = self._rng.standard_normal((3, 2))
        self._state = np.einsum('aij,aj->ai', self._go_on, self._state) + np.einsum(
            'aij,aj->ai', self._spread, noise
        )
        return now
