"""The rule of policies that can be rehearsed: identify, rehearse, fly; believe what is flown.

Every iteration flies one candidate. From all flights the student (`Student`) identifies the
vehicle, and rehearses on it until it knows a better candidate within the trust region about the
best that was flown. The ratio of the change that is flown to the one that was promised decides how
far the next rehearsals are believed (Conn, Gould, Toint, Trust-Region Methods, 2000, algorithm
6.1.1, with the constants of scipy's `_trustregion.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.rules import Step

if TYPE_CHECKING:
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters

# Below the first share of the promised change the region shrinks, above the second it grows.
POOR, GOOD = 0.25, 0.75
SHRINK, GROW = 0.25, 2.0
# Flights that are kept to identify from; older ones are of a vehicle of long ago.
KEPT = 3


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a student made of the flights.

    Attributes:
        candidate: What to fly next.
        promised: J that its rehearsals promise.
        details: For the record.
    """

    candidate: Parameters
    promised: float
    details: dict[str, Any] = field(default_factory=dict)


class Student(Protocol):
    """Who identifies and rehearses: knows the vehicle and the policy, where this rule knows none.

    A flight is a dictionary of arrays, as it can be kept.
    """

    def keep(self, flight: Any) -> dict[str, np.ndarray]:
        """Return what of a whole flight has to be known later."""
        ...

    def learn(
        self,
        flights: Sequence[dict[str, np.ndarray]],
        best: Parameters,
        radius: float,
        seed: int,
    ) -> Lesson:
        """Identify the vehicle from flights, and find a better candidate.

        Args:
            flights: Kept ones, the last one last.
            best: The best that was flown.
            radius: How far from it the candidate may be.
            seed: Of whatever is random.
        """
        ...


@dataclass(frozen=True)
class RehearsedRule:
    """See the module's description.

    Attributes:
        student: Learns from flights.
        radius: The trust region's at the start, in the student's units.
        most: Its largest.
    """

    student: Student
    radius: float = 3.0
    most: float = 6.0

    @property
    def tasks(self) -> int:
        """One."""
        return 1

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, judge it, learn, and plan the next one."""
        (flown,) = yield [FlightRequest(policy, NOMINAL)]
        best_J = float(memory.get('best_J', math.inf))
        best_k = int(memory.get('best_k', 0))
        best = policy.with_theta(memory['best_theta']) if 'best_theta' in memory else policy
        radius, promised = memory.get('radius', self.radius), memory.get('promised', math.inf)
        J = flown.outcome.J if flown.outcome.finite else math.inf
        if not k and not math.isfinite(J):
            reason = f'the first flight has no cost: {flown.flight.ended or "it is not finite"}'
            return Step(flown, policy, accepted=False, reason=reason, diverged=True)

        accepted, reason, ratio = J < best_J, '', None
        if math.isfinite(best_J):
            ratio = (best_J - J) / (best_J - promised) if promised < best_J else 0.0
            if not ratio >= POOR:
                radius *= SHRINK
            elif ratio > GOOD:
                radius = min(self.most, GROW * radius)
        if accepted:
            best_J, best_k, best = J, k, policy
        else:
            reason = f'J = {J:.4g} is no better than {best_J:.4g} of iteration {best_k}'

        flights = [_unpack(memory, i) for i in range(int(memory.get('flights', 0)))]
        if math.isfinite(J):
            flights = [*flights, self.student.keep(flown.flight)][-KEPT:]
        lesson = self.student.learn(flights, best, radius, int(rng.integers(2**31)))
        remembered: Memory = {
            'best_J': best_J, 'best_k': best_k, 'best_theta': best.theta, 'radius': radius,
            'promised': lesson.promised, 'flights': len(flights),
        }  # fmt: skip
        for i, flight in enumerate(flights):
            remembered |= {f'{name}_{i}': array for name, array in flight.items()}
        details = {
            'best_k': best_k, 'ratio': ratio, 'radius': radius, 'promised': lesson.promised,
            **lesson.details,
        }  # fmt: skip
        return Step(
            flown, lesson.candidate, accepted=accepted, reason=reason, memory=remembered,
            details=details,
        )  # fmt: skip


def _unpack(memory: Memory, i: int) -> dict[str, np.ndarray]:
    end = f'_{i}'
    return {
        name.removesuffix(end): array
        for name, array in memory.items()
        if name.endswith(end) and isinstance(array, np.ndarray)
    }
