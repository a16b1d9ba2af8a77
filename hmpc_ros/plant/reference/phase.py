"""How fast a curve is run through: from rest, at a steady rate, to rest."""

import numpy as np

from hmpc_ros.plant.reference.values import positive

# Peaks of the first and second derivative of the quintic below, for a ramp of 1 s.
PEAK_SLOPE = 15 / 8
PEAK_CURVATURE = 10 / 3**0.5


class Phase:
    """A phase whose rate rises from 0, stays, and falls back to 0, both by a quintic.

    With s = clip(t / ramp, 0, 1) the rate of the ramp is S(s) = 10 s^3 - 15 s^4 + 6 s^5, whose
    first two derivatives vanish at both ends (the minimum-jerk polynomial, Flash and Hogan 1985),
    and its integral J(t) = ramp (5/2 s^4 - 3 s^5 + s^6) + max(t - ramp, 0). Then

        phi(t) = rate (J(t) - J(t - cruise)),

    which ends at rate * cruise after cruise + ramp seconds: three continuous derivatives.

    Args:
        rate: the steady rate [rad/s], or whatever the curve's parameter counts per second.
        cruise: time [s] at which the rate begins to fall.
        ramp: time [s] that the rate takes to rise, and to fall.

    Raises:
        ValueError: an argument is not a positive finite number.
    """

    def __init__(self, rate: float, cruise: float, ramp: float) -> None:
        self.rate = positive('the rate of a path', rate)
        self.cruise = positive('the duration of a path', cruise)
        self.ramp = positive('the ramp of a path', ramp)
        self.end = self.rate * self.cruise
        self.duration = self.cruise + self.ramp
        self._begin = np.array([[0.0], [self.cruise]])

    def __call__(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the phase and its first three derivatives, each (n,), at times (n,) [s]."""
        since = (t - self._begin) / self.ramp
        s = np.minimum(np.maximum(since, 0.0), 1.0)
        square, left = s * s, 1.0 - s
        risen = square * square * (2.5 - 3.0 * s + square) + np.maximum(since - 1.0, 0.0)
        speed = square * s * (10.0 - 15.0 * s + 6.0 * square)
        slope = square * left * left
        bend = s * left * (left - s)
        rate, ramp = self.rate, self.ramp
        return (
            (rate * ramp) * (risen[0] - risen[1]),
            rate * (speed[0] - speed[1]),
            (30.0 * rate / ramp) * (slope[0] - slope[1]),
            (60.0 * rate / ramp**2) * (bend[0] - bend[1]),
        )


class Steady:
    """A phase that is time itself, for curves over time that rest at both ends by themselves."""

    def __init__(self, duration: float) -> None:
        self.duration = positive('the duration of a path', duration)

    def __call__(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the phase and its first three derivatives, each (n,), at times (n,) [s]."""
        none = np.zeros(len(t))
        under_way = ((t > 0.0) & (t < self.duration)).astype(float)
        return t.clip(0.0, self.duration), under_way, none, none
