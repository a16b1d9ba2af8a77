"""Thrust over mass [m/s^2] to an autopilot's throttle from 0 to 1, by the throttle of a hover.

Autopilots linearise their motors, so that thrust is taken to be proportional to throttle:

    u = h (a / g) (V_h / V)^n

with h the throttle of a hover at battery voltage V_h. A motor's thrust grows with the square of the
voltage (n = 2); n = 0 where the autopilot compensates it itself, or where no voltage is told. What
is left of the error is the controller's thrust gain to learn.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

GRAVITY = 9.80665  # m/s^2, of a standard hover


@dataclass(frozen=True)
class ThrustMap:
    """Throttle of a thrust.

    Attributes:
        hover: throttle of a hover, in (0, 1).
        voltage: of the battery at that hover [V]; NaN: unknown.
        exponent: n above.
    """

    hover: float
    voltage: float = math.nan
    exponent: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no hover."""
        if not 0.0 < self.hover < 1.0:
            raise ValueError(f'a hover throttle must lie between 0 and 1, got {self.hover}')

    def compensation(self, voltage: float) -> float:
        """Return by what the throttle grows at a battery voltage [V]; 1 where one is unknown."""
        if not (self.exponent and voltage > 0.0 and self.voltage > 0.0):
            return 1.0
        return (self.voltage / voltage) ** self.exponent

    def throttle(self, thrust: float, voltage: float = math.nan) -> float:
        """Return the throttle in [0, 1] of a thrust over mass [m/s^2].

        Raises:
            ValueError: the thrust is not finite.
        """
        if not math.isfinite(thrust):
            raise ValueError(f'a thrust of {thrust} m/s^2 cannot be flown')
        wanted = self.hover * thrust / GRAVITY * self.compensation(voltage)
        return min(max(wanted, 0.0), 1.0)


class HoverMeasurement:
    """Finds the hover throttle while the autopilot holds the vehicle in the air by itself.

    Args:
        seconds: how long it has to hover.
        speed: up to which it hovers [m/s].
    """

    def __init__(self, seconds: float = 3.0, speed: float = 0.3) -> None:
        self._seconds, self._speed = seconds, speed
        self._samples: deque[tuple[float, float, float]] = deque()

    def add(
        self, time: float, throttle: float, speed: float, tilt: float, voltage: float = math.nan
    ) -> None:
        """Take in a throttle that the autopilot commands; what is no hover begins it anew.

        Args:
            time: monotonic [s].
            throttle: in [0, 1].
            speed: [m/s].
            tilt: [rad]; a tilted hover needs 1 / cos(tilt) more.
            voltage: of the battery [V]; NaN: unknown.
        """
        last = self._samples[-1][0] if self._samples else time
        if not (0.0 < throttle < 1.0 and speed <= self._speed and abs(tilt) < 0.3):
            self._samples.clear()
            return
        if not 0.0 <= time - last <= 1.0:
            self._samples.clear()
        self._samples.append((time, throttle * math.cos(tilt), voltage))
        while len(self._samples) > 2 and self._samples[1][0] <= time - self._seconds:
            self._samples.popleft()

    def result(self, exponent: float = 0.0) -> ThrustMap | None:
        """Return the map that was measured, or None while it has not hovered for long enough."""
        count = len(self._samples)
        if count < 10 or self._samples[-1][0] - self._samples[0][0] < self._seconds:
            return None
        hover = sum(sample[1] for sample in self._samples) / count
        return ThrustMap(hover, sum(sample[2] for sample in self._samples) / count, exponent)
