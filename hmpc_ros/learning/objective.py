"""What one flight costs: tracking cost, violation of the state bounds, and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hmpc_ros.plant.declared import about

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hmpc_ros.policy.flight import Flight


@dataclass(frozen=True)
class Outcome:
    """Cost of one flight: ``J = C + penalty * V``."""

    C: float  #: tracking cost of states and inputs, in the units of the objective's weights
    V: float  #: sum over all steps of how far the bounded states were beyond their bounds
    J: float  #: the closed-loop objective

    @property
    def finite(self) -> bool:
        """Whether the flight has a cost: one that ran away or was cut short has none."""
        return bool(np.isfinite(self.J))


class Costs(Protocol):
    """What a training run asks of an objective, whatever flies."""

    def cost(self, flight: Any) -> Outcome:
        """Cost a flight; infinite where it has no cost that could be compared with others'."""
        ...

    def for_people(self, flight: Any) -> dict[str, float | None]:
        """Return what records tell of a flight besides its cost."""
        ...


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the mean cost of several flights; infinite where one of them has none."""
    C, V, J = (float(np.mean([getattr(o, name) for o in outcomes])) for name in 'CVJ')
    return Outcome(C, V, J)


def distances(
    deviations: NDArray[np.float64], state_max: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far bounded states, the last ones of (..., nx), are beyond their bounds (n,).

    That is (..., n), negative inside. What of it is positive adds up to V.
    """
    first = deviations.shape[-1] - len(state_max)
    return np.abs(deviations[..., first:]) - state_max


@dataclass(frozen=True, eq=False)
class Objective:
    """The closed-loop objective of a flight, in deviations from the goal and from hover.

        C = sum_{t<T} ( |x_t|^2_QQ + |u_t|^2_RR ) + |x_T|^2_PP
        V = sum_{t<=T} sum_i max(0, |x_{t,i}| - x_max,i)          over the bounded states
        J = C + rho V

    Attributes:
        state_max: Bounds of the last states, e.g. velocity, attitude and body rates; (bounded,).
        state_weights, input_weights, terminal_weights, penalty: As they say themselves, (nd,),
            (nu,), (nd,) and a number.

    Raises:
        ValueError: When a weight is negative or not finite, or a bound is not positive.
    """

    state_weights: NDArray[np.float64] = field(
        metadata=about('diagonal of QQ, what a step of the flight costs per squared state', low=0.0)
    )
    input_weights: NDArray[np.float64] = field(
        metadata=about('diagonal of RR, what a step of the flight costs per squared input', low=0.0)
    )
    terminal_weights: NDArray[np.float64] = field(
        metadata=about('diagonal of PP, what the last state costs', low=0.0)
    )
    penalty: float = field(
        metadata=about(
            'rho, cost per unit of violation of the state bounds limits.* of the controller',
            low=0.0,
        )
    )
    state_max: NDArray[np.float64] = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ('state_weights', 'input_weights', 'terminal_weights', 'state_max'):
            values = np.array(getattr(self, name), dtype=float)
            if values.ndim != 1:
                raise ValueError(f"the objective's {name} must be a list of numbers, got {values}")
            if not np.all(np.isfinite(values)) or np.any(values < 0):
                raise ValueError(
                    f"the objective's {name} must be finite and not negative, got {values.tolist()}"
                )
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        nx, n_last = len(self.state_weights), len(self.terminal_weights)
        if n_last != nx or len(self.state_max) > nx:
            raise ValueError(
                f"the objective's state_weights and terminal_weights must be equally many, and "
                f'state_max no more: got {nx}, {n_last} and {len(self.state_max)}'
            )
        if np.any(self.state_max == 0):
            raise ValueError("the objective's state bounds must be positive, got a zero")
        if not (np.isfinite(self.penalty) and self.penalty >= 0):
            raise ValueError(
                f"the objective's penalty must be finite and not negative, got {self.penalty}"
            )

    @property
    def bounded(self) -> slice:
        """Which states are bounded: the last ones."""
        return slice(len(self.state_weights) - len(self.state_max), len(self.state_weights))

    def cost(self, flight: Flight) -> Outcome:
        """Cost a flight; one that is not whole or not finite costs infinity.

        Args:
            flight: T steps; a flight that ended early has no cost that could be compared with
                others, so C, V and J are infinite.
        """
        x, u = flight.deviations, flight.input_deviations
        if not flight.complete or not (np.all(np.isfinite(x)) and np.all(np.isfinite(u))):
            return Outcome(np.inf, np.inf, np.inf)
        tracking = float(
            np.sum((x[:-1] * x[:-1]) @ self.state_weights)
            + np.sum((u * u) @ self.input_weights)
            + (x[-1] * x[-1]) @ self.terminal_weights
        )
        violation = float(self.excess(x).sum())
        return Outcome(tracking, violation, tracking + self.penalty * violation)

    def for_people(self, flight: Flight) -> dict[str, float | None]:  # noqa: ARG002
        """Return nothing: the cost says it all."""
        return {}

    def excess(self, deviations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far each bounded state is beyond its bound, (T+1, bounded), zero inside."""
        return np.maximum(0.0, distances(deviations, self.state_max))

    def derivatives(self, flight: Flight) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Differentiate J with respect to the flight's deviations.

        On a bound the penalty has a kink; its subgradient there is taken as 0.

        Returns:
            dJ/dx_t of shape (T+1, nd) and dJ/du_t of shape (T, nu), in the goal frame.
        """
        x, u = flight.deviations, flight.input_deviations
        dx = 2.0 * x
        dx[:-1] *= self.state_weights
        dx[-1] *= self.terminal_weights
        bounded = x[:, self.bounded]
        dx[:, self.bounded] += self.penalty * np.sign(bounded) * (np.abs(bounded) > self.state_max)
        return dx, 2.0 * u * self.input_weights
