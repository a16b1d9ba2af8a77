"""A bounded flight to a goal, from rest or from a flight under way, and what is flown after it."""

import math
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.reference.phase import PEAK_CURVATURE, PEAK_SLOPE, Phase
from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.reference.values import finite, place, positive


@dataclass(frozen=True)
class Pace:
    """How fast a vehicle is sent to a goal; yaw likewise, in radians.

    Raises:
        ValueError: a value is not a positive finite number.
    """

    speed: float = 5.0  # m/s
    acceleration: float = 7.0  # m/s^2
    jerk: float = 50.0  # m/s^3

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ('speed', 'acceleration', 'jerk'):
            positive(f'the {name} of a transfer', getattr(self, name))

    def phase(self, distance: float) -> Phase | None:
        """Return the quickest phase that covers a distance from rest to rest; None for none.

        Ramps by the quintic of `Phase` have peaks 15/8 v / ramp and 10/sqrt(3) v / ramp^2. They
        must not overlap (ramp <= distance / v), so that the peaks of both never add up.
        """
        if distance < 1e-9:
            return None
        v = min(
            self.speed,
            math.sqrt(distance * self.acceleration / PEAK_SLOPE),
            (distance * distance * self.jerk / PEAK_CURVATURE) ** (1 / 3),
        )
        return Phase(v, distance / v, self.ramp(v))

    def ramp(self, speed: float) -> float:
        """Return the time [s] in which a speed may be reached or lost."""
        return max(
            PEAK_SLOPE * speed / self.acceleration, math.sqrt(PEAK_CURVATURE * speed / self.jerk)
        )


TURN = Pace(speed=2.0, acceleration=4.0, jerk=20.0)  # of yaw: rad/s, rad/s^2, rad/s^3


class Transfer:
    """Straight to a goal (3,) [m] within a pace, without overshoot when begun at rest.

    A flight under way is braked first, as it were: its velocity (3,) [m/s] fades by
    1 - S(t / ramp), and the transfer from where that would end is flown at the same time, so that
    position, velocity and what follows are continuous. Each of the two keeps the pace. Yaw [rad]
    goes the shorter way round.

    Raises:
        ValueError: an argument is not finite or of the wrong shape.
    """

    def __init__(
        self,
        start: np.ndarray,
        goal: np.ndarray,
        start_yaw: float = 0.0,
        goal_yaw: float = 0.0,
        pace: Pace = Pace(),
        velocity: np.ndarray | None = None,
    ) -> None:
        self.start = place('the start of a transfer', start)
        self.goal = place('the goal', goal)
        self.goal_yaw = float(finite('the yaw of the goal', goal_yaw, ()))
        turn = self.goal_yaw - float(finite('the yaw at the start', start_yaw, ()))
        turn = math.remainder(turn, 2 * math.pi)
        self._start_yaw = self.goal_yaw - turn
        self._turn_sign = math.copysign(1.0, turn)
        self._turn = TURN.phase(abs(turn))

        self._velocity = np.zeros(3)
        self._fade: Phase | None = None
        if velocity is not None:
            self._velocity = finite('the velocity at the start', velocity, (3,))
        speed = float(np.linalg.norm(self._velocity))
        halt = self.start
        braking = 0.0
        if speed > 1e-9:
            braking = pace.ramp(speed)
            self._fade = Phase(1.0, braking, braking)
            halt = self.start + 0.5 * braking * self._velocity
        way = self.goal - halt
        distance = float(np.linalg.norm(way))
        self._phase = pace.phase(distance)
        self._direction = way / distance if self._phase else np.zeros(3)
        ends = [phase.duration for phase in (self._phase, self._turn) if phase]
        self.duration = max([braking, *ends])

    def sample(self, t: np.ndarray) -> Samples:
        """Return the flight at times (n,) [s]."""
        n = len(t)
        orders = np.zeros((4, n, 3))
        orders[0] = self.start
        if self._phase:
            orders += np.stack(self._phase(t))[:, :, None] * self._direction
        if self._fade:
            # The integral of 1 - S is t - J(t), constant once J's ramp is over.
            now = np.clip(t, 0.0, self._fade.ramp)
            fade = -np.stack(self._fade(now))
            fade[0] += now
            fade[1] += 1.0
            orders += fade[:, :, None] * self._velocity
        yaw, rate = np.full(n, self._start_yaw), np.zeros(n)
        if self._turn:
            angle, speed, _, _ = self._turn(t)
            yaw, rate = yaw + self._turn_sign * angle, self._turn_sign * speed
        return Samples(orders[0], orders[1], orders[2], orders[3], yaw, rate)


class Then:
    """One reference, and another from where it ended."""

    def __init__(self, first: Reference, second: Reference) -> None:
        self.first, self.second = first, second
        self.duration = first.duration + second.duration

    def sample(self, t: np.ndarray) -> Samples:
        """Return whichever is on at times (n,) [s]."""
        begin = self.first.duration
        later = t >= begin
        if later.all():
            return self.second.sample(t - begin)
        before = self.first.sample(t)
        if not later.any():
            return before
        after = self.second.sample(t - begin)
        return Samples(
            *(
                np.where(later.reshape(-1, *[1] * (one.ndim - 1)), two, one)
                for one, two in zip(before, after, strict=True)
            )
        )


def started_from(
    reference: Reference,
    position: np.ndarray,
    yaw: float = 0.0,
    velocity: np.ndarray | None = None,
    pace: Pace = Pace(),
) -> Reference:
    """Return a reference begun by a bounded transfer from where the vehicle is.

    Position (3,) [m], yaw [rad] and velocity (3,) [m/s], 0 if None, are the vehicle's, or those of
    the reference that it follows now.

    Raises:
        ValueError: an argument is not finite or of the wrong shape.
    """
    begin = reference.sample(np.zeros(1))
    transfer = Transfer(position, begin.position[0], yaw, float(begin.yaw[0]), pace, velocity)
    return Then(transfer, reference) if transfer.duration else reference
