"""The gradient of a flight's cost by the costate recursion: backpropagation through the loop.

The flight is a chain: the policy answers each state, the plant answers each input,

    u_t = MPC(x_t, theta)              x_{t+1} = f(x_t, u_t)

Add up J with a multiplier for each link,

    L = J(x, u) + sum_t w_t' (MPC(x_t, theta) - u_t) + sum_t lam_{t+1}' (f(x_t, u_t) - x_{t+1})

On the flight every bracket is zero, so L = J whatever the multipliers are, and dJ/dtheta is
dL/dtheta with x and u held still, once the multipliers make L stationary in x and u:

    dL/du_t = 0:   w_t   = dJ/du_t + B_t' lam_{t+1}
    dL/dx_t = 0:   lam_t = dJ/dx_t + A_t' lam_{t+1} + K_t' w_t,         lam_T = dJ/dx_T

with the plant's Jacobians A_t = df/dx, B_t = df/du and the policy's K_t = dMPC/dx at (x_t, u_t).
lam_t is the *costate*: what a small push of the state at time t would do to the cost of the rest
of the flight under the reacting policy. What remains of dL/dtheta is

    dJ/dtheta = sum_t w_t' dMPC/dtheta(x_t, theta)

This runs backwards once, whatever the number of weights. Putting w_t into the line of lam_t leaves
one matrix per step,

    lam_t = (dJ/dx_t + K_t' dJ/du_t) + (A_t + B_t K_t)' lam_{t+1}

so that everything but that product is done for all steps at once.

The states and inputs are the *measured* ones. f is not known: who supplies A_t and B_t decides what
kind of gradient this is. The identified linear model gives the paper's model-based gradient; the
true vehicle gives the exact one ("perfect model").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from hmpc_ros.policy.flight import resolve
from hmpc_ros.policy.protocol import MissingDerivativeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import Loop, Policy, PolicyDerivative


class Differentiable(Protocol):
    """What a gradient asks of an objective."""

    def derivatives(self, flight: Any, /) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return dJ/dx_t (T+1, m) by errors, of the first m numbers of a state, and dJ/du_t."""
        ...


def gradient(
    flight: Any, policy: PolicyDerivative, plant: Any, objective: Differentiable
) -> NDArray[np.float64]:
    """Differentiate J of one flight, dJ/dtheta (n,), with respect to the MPC's weights theta.

    Args:
        flight: T measured steps.
        policy: Derivative of the MPC at each of the flight's states, under the weights flown.
        plant: What the policy's derivative takes the plant's Jacobians from. It may have more
            states than are measured (a delay's, a motor's): they come last.
        objective: What the flight costs.

    Raises:
        MissingDerivativeError: When the MPC failed at some steps. They have no derivative, and
            leaving them out would be a wrong gradient, not a smaller one.
    """
    return loop_gradient(policy, policy.loop(flight, plant), *objective.derivatives(flight))


def backpropagate(
    dJ_dx: NDArray[np.float64],
    dJ_du: NDArray[np.float64],
    A: NDArray[np.float64],
    B: NDArray[np.float64],
    K: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run the recursion over a flight of T steps.

    Args:
        dJ_dx: (T+1, nd).
        dJ_du: (T, nu).
        A: the plant's (T, nd, nd).
        B: the plant's (T, nd, nu).
        K: the policy's (T, nu, nd).

    Returns:
        The costates lam (T+1, nd) and the seeds w (T, nu).
    """
    # (A_t + B_t K_t)' and dJ/dx_t + K_t' dJ/du_t for all t, then the recursion proper.
    closed_loop = np.swapaxes(A + B @ K, 1, 2)
    source = dJ_dx[:-1] + (dJ_du[:, None, :] @ K)[:, 0, :]
    costate = np.empty_like(dJ_dx)
    costate[-1] = dJ_dx[-1]
    for t in range(len(dJ_du) - 1, -1, -1):
        costate[t] = source[t] + closed_loop[t] @ costate[t + 1]
    return costate, dJ_du + (costate[1:, None, :] @ B)[:, 0, :]


def loop_gradient(
    policy: PolicyDerivative, loop: Loop, dJ_dx: NDArray[np.float64], dJ_du: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differentiate J of one flight where theta also moves what the policy remembers.

    With a state s that holds that too, s_{t+1} = f(s_t, u_t, theta) and s_0 = s_0(theta),

        dJ/dtheta = sum_t [ w_t' du_t/dtheta + lam_{t+1}' df/dtheta ] + lam_0' ds_0/dtheta

    Args:
        policy: of ns numbers shown.
        loop: of nd >= ns numbers, those shown first.
        dJ_dx: (T+1, m), of the first m numbers of the state; J does not depend on the others.
        dJ_du: (T, nu).

    Returns:
        dJ/dtheta, (n,).

    Raises:
        MissingDerivativeError: the policy has no derivative at some steps.
    """
    gain, slope = (_widened(each, loop.B.shape[1]) for each in (policy.state_gain, dJ_dx))
    costates, seeds = backpropagate(slope, dJ_du, loop.A, loop.B, gain)
    found = policy.vjp(seeds)
    if loop.initial is not None:
        found = found + costates[0] @ loop.initial
    if loop.forcing is not None:
        found = found + np.einsum('ti,tin->n', costates[1:], loop.forcing)
    return found


def _widened(shown: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return an array with zeros for what of the state is not shown, (..., size)."""
    missing = size - shown.shape[-1]
    return np.pad(shown, [(0, 0)] * (shown.ndim - 1) + [(0, missing)]) if missing else shown


APolicy = TypeVar('APolicy', bound='Policy')
AnObjective = TypeVar('AnObjective', bound=Differentiable)


@dataclass(frozen=True, eq=False)
class FlightGradient(Generic[APolicy, AnObjective]):
    """dJ/dtheta of flights, with a copy of the policy that is the learner's own."""

    #: differentiated at the flight's states; its parameters become those of the flight
    policy: APolicy
    plant: Any  #: supplies the plant's Jacobians, in the terms of the policy
    objective: AnObjective  #: what a flight costs

    def __call__(self, flight: Any, parameters: Parameters) -> NDArray[np.float64]:
        """Differentiate a flight that was flown under these parameters.

        Raises:
            MissingDerivativeError: When the MPC failed at some steps, in flight or just now.
        """
        if flight.failed_steps:
            raise MissingDerivativeError(flight.failed_steps, flight.steps)
        self.policy.use(parameters)
        solutions = flight.solutions or resolve(flight, self.policy)
        return gradient(flight, self.policy.differentiate(solutions), self.plant, self.objective)
