"""What every MPC offers to those who fly and tune it, whatever it solves."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hmpc_ros.policy.parameters import Parameters


class SolveStatus(enum.Enum):
    """How a solve ended; only `SUCCESS` has an input that may be flown."""

    SUCCESS = 'solved'
    INVALID_STATE = 'the state is not finite, or beyond all measure'
    SOLVER_ERROR = 'acados reports an error'
    NOT_CONVERGED = 'the QP solver did not converge'
    NOT_FINITE = 'the QP solver returned numbers that are not finite'


class MissingDerivativeError(RuntimeError):
    """Some solves of a flight failed: there u_0, and hence its derivative, does not exist.

    Attributes:
        steps: the indices of those solves.
        total: the number of solves of the flight.
    """

    def __init__(self, steps: Sequence[int], total: int) -> None:
        self.steps = tuple(int(step) for step in steps)
        self.total = int(total)
        shown = ', '.join(map(str, self.steps[:10])) + (', ...' if len(self.steps) > 10 else '')
        super().__init__(
            f'the flight has no model-based gradient: the MPC solve failed at {len(self.steps)} '
            f'of {self.total} steps ({shown})'
        )


class Solution(Protocol):
    """What one solve produced; the rest of it is the policy's own."""

    @property
    def ok(self) -> bool:
        """Whether the solution may be used."""
        ...

    @property
    def input(self) -> NDArray[np.float64]:
        """What to command (nu,), inside the limits."""
        ...


class PolicyDerivative(Protocol):
    """Derivative of the command at every solve of a flight of T steps."""

    @property
    def state_gain(self) -> NDArray[np.float64]:
        """du/dx (T, nu, nd), x the state's error.

        Raises:
            MissingDerivativeError: a step's solve failed (as in all that follows).
        """
        ...

    def vjp(self, seeds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return sum_t w_t' du_t/dtheta (n,) for seeds w (T, nu)."""
        ...

    def jacobian(self) -> NDArray[np.float64]:
        """Return du/dtheta (T, nu, n)."""
        ...

    def loop(self, flight: Any, plant: Any) -> Loop:
        """Return how the flight went on from step to step, with what the policy remembers.

        Args:
            flight: the one that was differentiated.
            plant: supplies the vehicle's Jacobians, in the terms of this kind of policy.
        """
        ...


@dataclass(frozen=True, eq=False)
class Loop:
    """How a plant goes on, with all that a policy keeps from one step to the next."""

    A: NDArray[np.float64]  #: by its state (T, nd, nd); what the policy is shown comes first
    B: NDArray[np.float64]  #: by the input (T, nd, nu)
    #: directly by theta: its next state (T, nd, n); None: theta only moves inputs
    forcing: NDArray[np.float64] | None = None
    #: directly by theta: its first state (nd, n); None as before
    initial: NDArray[np.float64] | None = None


class Policy(Protocol):
    """An MPC that learning may tune.

    What it is to do at a state is told by a *window*: a goal, or a reference from a time on.
    """

    @property
    def parameters(self) -> Parameters:
        """What it flies with."""
        ...

    def use(self, parameters: Parameters) -> None:
        """Fly with other parameters from now on; what stays the same is kept."""
        ...

    def reset(self) -> None:
        """Forget the last solution, as at the beginning of a flight."""
        ...

    def solve(self, x: NDArray[np.float64], window: Any) -> Any:
        """Return the `Solution` at a measured state (nx,)."""
        ...

    def differentiate(self, solutions: Sequence[Any]) -> PolicyDerivative:
        """Differentiate at the `Solution` of each step of a flight under the present parameters."""
        ...

    def fallback(self, x: NDArray[np.float64], window: Any) -> NDArray[np.float64]:
        """Return a command (nu,) without a solve, where one failed."""
        ...

    def refit(self, parameters: Parameters, surrogate: Any) -> Parameters:
        """Return the parameters with a prediction model that agrees with a surrogate's."""
        ...


class DeviationPolicy(Policy, Protocol):
    """One whose states are their own deviations in one frame, so that it can be rehearsed there."""

    @property
    def origin(self) -> Any:
        """The goal in whose frame states are their own deviations."""
        ...

    @property
    def trim_input(self) -> NDArray[np.float64]:
        """The command (nu,) that holds the origin, which input deviations are from."""
        ...

    def solve_deviation(self, deviation: NDArray[np.float64]) -> Any:
        """Return the `Solution` at a state's deviation (nd,)."""
        ...

    def first_input(self, deviation: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the command's deviation (nu,) alone, as quickly as can be; None: no solution."""
        ...

    def retune(self, parameters: Parameters, start: Parameters) -> Parameters:
        """Return the parameters with theta as a start's would be for their prediction model.

        Raises:
            ValueError: there is no such theta.
        """
        ...
