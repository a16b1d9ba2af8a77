"""Forward sensitivities of a flight: how its states and inputs move with the weights.

    dU_t     = K_t dX_t + dMPC/dtheta(x_t)                     u_t = MPC(x_t, theta)
    dX_{t+1} = A_t dX_t + B_t dU_t + sum_l L_l,t dU_{t-l}      dX_0 = 0

with the policy's K_t = dMPC/dx and the plant's Jacobians A_t, B_t and, where past inputs act (motor
lag, delay), L_l,t. Where x also holds what the policy remembers, theta may move it directly: dX_0
is not 0 then, and dX_{t+1} has a term F_t more. The costate recursion (``costate.py``) is the
transpose of this and gives the gradient of one number J at a fraction of the cost; the whole
trajectory's sensitivities are needed where the cost's own shape is to be kept: composite.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ForwardSensitivity:
    """Derivatives of a flight with respect to the weights."""

    states: NDArray[np.floating]  #: dX, (T+1, nd, n)
    inputs: NDArray[np.floating]  #: dU, (T, nu, n)


def forward_sensitivity(
    state_gain: NDArray[np.float64],
    weight_jacobian: NDArray[np.float64],
    A: NDArray[np.float64],
    B: NDArray[np.float64],
    lagged: NDArray[np.float64] | None = None,
    dtype: type[np.floating] = np.float64,
    forcing: NDArray[np.float64] | None = None,
    initial: NDArray[np.float64] | None = None,
) -> ForwardSensitivity:
    """Run the recursion over a flight.

    Args:
        state_gain: K of the MPC, (T, nu, nd).
        weight_jacobian: dMPC/dtheta at the states flown, (T, 4, n).
        A: (T, nd, nd).
        B: (T, nd, nu).
        lagged: L, (T, lags, nd, nu); None where only the present input acts.
        dtype: Precision of the recursion over past inputs; memory is what it takes time for.
        forcing: F, (T, 12, n), where theta moves the next state directly.
        initial: dX_0, (12, n), where theta moves the first one.
    """
    steps, nu, n = weight_jacobian.shape
    nx = A.shape[-1]
    dX, dU = np.zeros((steps + 1, nx, n)), np.empty((steps, nu, n))
    if lagged is None:
        closed_loop = A + B @ state_gain
        forced = B @ weight_jacobian
        if forcing is not None:
            forced += forcing
        if initial is not None:
            dX[0] = initial
        for t in range(steps):
            np.matmul(closed_loop[t], dX[t], out=dX[t + 1])
            dX[t + 1] += forced[t]
        np.matmul(state_gain, dX[:-1], out=dU)
        return ForwardSensitivity(dX, dU + weight_jacobian)

    # The state is augmented by the past inputs: s = (x, u_{t-1}, u_{t-2}, ...). x and u_{t-1} come
    # of a matrix product, the older inputs only move on.
    lags = lagged.shape[1]
    size, new = nx + lags * nu, nx + nu
    closed_loop = np.zeros((steps, new, size), dtype)
    forced = np.empty((steps, new, n), dtype)
    closed_loop[:, :nx, :nx] = A + B @ state_gain
    closed_loop[:, :nx, nx:] = lagged.transpose(0, 2, 1, 3).reshape(steps, nx, lags * nu)
    closed_loop[:, nx:, :nx] = state_gain
    forced[:, nx:] = weight_jacobian
    np.matmul(B.astype(dtype), forced[:, nx:], out=forced[:, :nx])
    dS = np.zeros((steps + 1, size, n), dtype)
    if forcing is not None:
        forced[:, :nx] += forcing
    if initial is not None:
        dS[0, :nx] = initial
    for transition, force, now, then in zip(closed_loop, forced, dS[:-1], dS[1:], strict=True):
        np.dot(transition, now, out=then[:new])
        then[:new] += force
        then[new:] = now[nx:-nu]
    return ForwardSensitivity(dS[:, :nx], dS[1:, nx:new])
