"""What may be flown and what may be kept: the safety envelope, and accept or roll back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.objective import distances
from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.protocol import POSITION_ERROR, TILT_ERROR

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import Evaluation
    from hmpc_ros.policy.flight import Flight


@dataclass(frozen=True)
class Envelope:
    """Bounds that a flight must not leave, seen from the goal.

    Attributes:
        position, attitude, violation: As they say themselves.
        state_max: The bounds that V counts beyond, in the order of the states, of the last ones.

    Raises:
        ValueError: When a bound is not positive.
    """

    position: float = parameter(
        100.0, 'distance from the goal along any axis beyond which a flight is cut short', 'm', 1e-3
    )
    attitude: float = parameter(
        1.5, 'roll or pitch beyond which a flight is cut short', 'rad', 1e-3
    )
    violation: float = parameter(
        1e9, 'violation V of the state bounds beyond which a flight is cut short', low=1e-6
    )
    state_max: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ('position', 'attitude', 'violation'):
            if not getattr(self, name) > 0:
                raise ValueError(f'the safety envelope of the {name} must be positive')

    def excess(self, deviation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what states in the goal frame (..., nd) add to V, (...,)."""
        return np.maximum(0.0, distances(deviation, self.state_max)).sum(axis=-1)

    def breach(self, deviation: NDArray[np.float64], violation: float = 0.0) -> str:
        """Say how a flight leaves the envelope; empty when it does not.

        Args:
            deviation: Its present state in the goal frame, (nd,).
            violation: V up to and with this state.
        """
        if not np.all(np.isfinite(deviation)):
            return 'the state is not finite'
        distance = float(np.max(np.abs(deviation[POSITION_ERROR])))
        tilt = float(np.max(np.abs(deviation[TILT_ERROR])))
        if distance > self.position:
            return f'{distance:.2f} m from the goal, beyond the envelope of {self.position:g} m'
        if tilt > self.attitude:
            return f'tilted by {tilt:.2f} rad, beyond the envelope of {self.attitude:g} rad'
        if violation > self.violation:
            return f'a violation of {violation:.4g}, beyond the envelope of {self.violation:g}'
        return ''

    def cut(self, flight: Flight) -> Flight:
        """Return the flight as it would have been, had it been cut short at its first breach."""
        x = flight.deviations
        with np.errstate(invalid='ignore'):
            safe = (np.abs(x[:, POSITION_ERROR]) <= self.position).all(axis=1)
            safe &= (np.abs(x[:, TILT_ERROR]) <= self.attitude).all(axis=1)
            safe &= np.isfinite(x).all(axis=1)
            violation = np.cumsum(self.excess(x))
            safe &= ~(violation > self.violation)
        if safe.all():
            return flight
        t = int(np.argmin(safe))
        return replace(
            flight,
            states=flight.states[: t + 1],
            inputs=flight.inputs[:t],
            solutions=(),  # a flight without a cost has no gradient
            failed_steps=tuple(step for step in flight.failed_steps if step < t),
            planned_steps=flight.steps,
            ended=f'cut short at step {t}: {self.breach(x[t], violation[t])}',
        )


@dataclass(frozen=True)
class Safeguard:
    """Accept or roll back: weights are kept only when their flight earns it.

    Raises:
        ValueError: When a number is outside its range.
    """

    margin: float = parameter(
        0.05, 'share of the best objective by which an acceptable one may exceed it', low=0.0
    )
    violation: float = parameter(1e9, 'largest violation V that is acceptable', low=0.0)
    shrink: float = parameter(0.5, 'factor on the step size after a rollback', low=0.01, high=1.0)

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise ValueError(f"the safeguard's margin must not be negative, got {self.margin}")
        if not self.violation >= 0:
            raise ValueError(
                f"the safeguard's largest violation must not be negative, got {self.violation}"
            )
        if not 0 < self.shrink <= 1:
            raise ValueError(f"the safeguard's shrink factor must be in (0, 1], got {self.shrink}")

    def judge(self, nominal: Evaluation, memory: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Decide on the weights of a nominal flight.

        The memory is ``accepted_theta``, ``best_J`` and ``step_scale`` so far; empty at first.

        Returns:
            The reason to roll back (empty: accepted) and the memory after the decision.
        """
        reason = self.objection(nominal, memory.get('best_J', np.inf))
        if reason:
            scale = memory.get('step_scale', 1.0) * self.shrink
            return reason, {**memory, 'step_scale': scale}
        return '', {
            'accepted_theta': nominal.theta,
            'best_J': min(nominal.outcome.J, memory.get('best_J', np.inf)),
            'step_scale': memory.get('step_scale', 1.0),
        }

    def objection(self, nominal: Evaluation, best: float) -> str:
        """Say why a flight's weights are not acceptable, given the best J; empty when they are."""
        if nominal.flight.ended:
            return nominal.flight.ended
        if not nominal.outcome.finite:
            return 'the flight is not whole or not finite'
        objective, violation = nominal.outcome.J, nominal.outcome.V
        if violation > self.violation:
            return f'the violation {violation:.4g} exceeds {self.violation:.4g}, the most allowed'
        if objective > best + self.margin * abs(best):
            return (
                f'the objective {objective:.4f} is more than {100 * self.margin:g} % above '
                f'the best, {best:.4f}'
            )
        return ''
