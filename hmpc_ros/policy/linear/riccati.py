"""Riccati recursion of the MPC's linear-quadratic problem, for many curvatures at once.

    minimise   sum_{k<N} 1/2 x_k' (H_x + D_x,k) x_k + 1/2 u_k' (H_u + D_u,k) u_k
               + 1/2 x_N' (H_N + D_x,N) x_N            with x_(k+1) = A x_k + B u_k

    H_x = 2 Q, H_u = 2 R, H_N = 2 P;  D diagonal, what the bounds add (zero where none matters)

    P_N = H_N + D_x,N
    S_k = H_u + D_u,k + B' P_(k+1) B
    K_k = -S_k^-1 B' P_(k+1) A
    P_k = H_x + D_x,k + A' P_(k+1) A + (B' P_(k+1) A)' K_k

u_k = K_k x_k is optimal, and the first input answers a linear cost w' u_0 with -S_0^-1 w.
"""

from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.policy.elimination import eliminate
from hmpc_ros.policy.linear.limits import BOUNDED_STATES
from hmpc_ros.policy.linear.weights import Weights


@dataclass(frozen=True, eq=False)
class Riccati:
    """Gains of T problems that share model and weights and differ in the curvature of their bounds.

    The problem's index comes last in every array: the recursion is then one matrix product per
    stage for all problems together, and what remains runs over contiguous memory.
    """

    model: LinearModel
    gains: np.ndarray  #: K (N, 4, 12, T)
    values: np.ndarray | None  #: P_1 ... P_N as (N, 12, 12, T) where asked for, else None
    first_inverse: np.ndarray  #: S_0^-1 (4, 4, T)

    def seed_response(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the plan's answer to a linear cost on the first input.

        Args:
            seeds: costs w (4, R, T): R of them for every problem.

        Returns:
            z_x (N, 12, R, T) of the stages 1 ... N and z_u (N, 4, R, T) of the stages 0 ... N-1.
        """
        horizon, nu, nx, _ = self.gains.shape
        _, count, problems = seeds.shape
        z_x = np.empty((horizon, nx, count, problems))
        z_u = np.empty((horizon, nu, count, problems))
        for k in range(horizon):
            gain, cause = (self.gains[k], z_x[k - 1]) if k else (-self.first_inverse, seeds)
            np.einsum('mit,irt->mrt', gain, cause, out=z_u[k])
            # One matrix product over all columns (r, t) at once.
            step = self.model.B @ z_u[k].reshape(nu, -1)
            if k:
                step += self.model.A @ z_x[k - 1].reshape(nx, -1)
            z_x[k] = step.reshape(nx, count, problems)
        return z_x, z_u


def factorise(
    model: LinearModel,
    weights: Weights,
    input_curvature: np.ndarray,
    state_curvature: np.ndarray,
    keep_values: bool = False,
) -> Riccati:
    """Run the recursion for T problems.

    Args:
        model: A and B (c plays no part in the gains).
        weights: Q, R and P, without acados' factor 1/2.
        input_curvature: D_u (N, 4, T), stages 0 ... N-1.
        state_curvature: D_x (N, 9, T) of the bounded states, stages 1 ... N.
        keep_values: also keep P_k.

    Where a curvature is not finite, or S_k is not positive definite, the gains come out as NaN.
    """
    A, B = model.A, model.B
    nx, nu = B.shape
    horizon, _, problems = input_curvature.shape
    bounded = np.arange(nx)[BOUNDED_STATES]
    H_x = 2 * weights.state_weight[:, :, None]
    H_u = 2 * weights.input_weight[:, :, None]
    inputs = np.arange(nu)

    gains = np.empty((horizon, nu, nx, problems))
    values = np.empty((horizon, nx, nx, problems)) if keep_values else None
    identity = np.repeat(np.eye(nu)[:, :, None], problems, axis=2)
    definite = np.ones(problems, dtype=bool)
    P = np.repeat(2 * weights.terminal_weight[:, :, None], problems, axis=2)
    for k in range(horizon - 1, -1, -1):
        P[bounded, bounded] += state_curvature[k]
        if values is not None:
            values[k] = P
        BP = (B.T @ P.reshape(nx, -1)).reshape(nu, nx, problems)
        S = np.matmul(B.T, BP)  # (B' P) B, contracted over the middle index
        S += H_u
        S[inputs, inputs] += input_curvature[k]
        BPA = np.matmul(A.T, BP)
        columns = [S, BPA, identity] if k == 0 else [S, BPA]
        solved, positive = eliminate(np.concatenate(columns, axis=1))
        definite &= positive
        gains[k] = -solved[:, nu : nu + nx]
        if k:
            PA = np.matmul(A.T, P)
            P = (A.T @ PA.reshape(nx, -1)).reshape(nx, nx, problems)
            P += H_x
            P += np.einsum('mit,mjt->ijt', BPA, gains[k])
            # Curvatures reach 1e10: rounding that is not symmetric would grow from stage to stage.
            P = (P + P.swapaxes(0, 1)) / 2
    gains[..., ~definite] = np.nan
    return Riccati(model, gains, values, solved[:, nu + nx :])
