"""The MPC's QP written down once more, without the package's solver or recursion.

`PiqpMpc` solves it with PIQP, an interior-point solver unrelated to acados, in sparse form with
states and slacks as variables. `active_set_derivative` differentiates a solution by eliminating
the states and solving the dense KKT system of its active set, exactly and without a barrier.
"""

from types import SimpleNamespace

import numpy as np
import piqp
import scipy.sparse as sp

NX, NU, NB, FIRST = 12, 4, 9, 3
Z2, Z1 = 50.0, 25.0


class PiqpMpc:
    """Solves the QP for one model, weights and limits; deviations in, primal-dual solution out."""

    def __init__(self, model, weights, limits, horizon=12, tolerance=1e-12):
        self.model, self.weights, self.limits, self.N = model, weights, limits, horizon
        N, n_slack = horizon, horizon * NB
        n_x, n_u = N * NX, N * NU
        Q, R, P = weights.state_weight, weights.input_weight, weights.terminal_weight
        hessian = sp.block_diag(
            [2 * Q] * (N - 1) + [2 * P] + [2 * R] * N + [Z2 * sp.eye(2 * n_slack)], format='csc'
        )
        linear = np.concatenate((np.zeros(n_x + n_u), Z1 * np.ones(2 * n_slack)))
        dynamics = sp.hstack(
            [
                sp.eye(n_x) - sp.kron(sp.eye(N, k=-1), model.A),
                -sp.kron(sp.eye(N), model.B),
                sp.csc_matrix((n_x, 2 * n_slack)),
            ],
            format='csc',
        )
        bounded = np.zeros((NB, NX))
        bounded[np.arange(NB), FIRST + np.arange(NB)] = 1
        pick = sp.kron(sp.eye(N), bounded)
        no_u, one, none = (
            sp.csc_matrix((n_slack, n_u)),
            sp.eye(n_slack),
            sp.csc_matrix((n_slack,) * 2),
        )
        sides = sp.vstack(
            [sp.hstack([-pick, no_u, -one, none]), sp.hstack([pick, no_u, none, -one])],
            format='csc',
        )
        free = np.full(n_x, np.inf)
        lowest = limits.rotor_min - model.hover_input
        highest = limits.rotor_max - model.hover_input
        lower = np.concatenate((-free, np.tile(lowest, N), np.zeros(2 * n_slack)))
        upper = np.concatenate((free, np.tile(highest, N), np.full(2 * n_slack, np.inf)))
        self._solver = piqp.SparseSolver()
        settings = self._solver.settings
        settings.eps_abs = settings.eps_rel = tolerance
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance
        settings.max_iter = 200
        x_max = np.tile(limits.state_max, N)
        self._solver.setup(
            hessian, linear, dynamics, np.zeros(n_x), sides, None,
            np.concatenate((x_max, x_max)), lower, upper,
        )  # fmt: skip

    def solve(self, x0):
        """Solve for a state deviation (12,); same fields as the package's Solution."""
        N = self.N
        right = np.tile(self.model.c, N)
        right[:NX] += self.model.A @ x0
        self._solver.update(b=right)
        status = self._solver.solve()
        assert status == piqp.PIQP_SOLVED, status
        # Copies: the result's arrays are PIQP's own memory.
        result = SimpleNamespace(
            **{
                name: np.array(getattr(self._solver.result, name))
                for name in ('x', 'z_u', 'z_bl', 'z_bu')
            }
        )
        x, u = result.x[: N * NX].reshape(N, NX), result.x[N * NX : N * (NX + NU)].reshape(N, NU)
        slacks = result.x[N * (NX + NU) :].reshape(2, N, NB)
        u_part = slice(N * NX, N * (NX + NU))
        return SimpleNamespace(
            ok=True,
            states=np.vstack((x0, x)),
            inputs=u,
            input_multipliers=np.stack(
                (result.z_bl[u_part].reshape(N, NU), result.z_bu[u_part].reshape(N, NU)), axis=1
            ),
            state_multipliers=result.z_u.reshape(2, N, NB).swapaxes(0, 1),
            slacks=slacks.swapaxes(0, 1),
            slack_multipliers=result.z_bl[N * (NX + NU) :].reshape(2, N, NB).swapaxes(0, 1),
        )


def active_set(model, weights, limits, solution):
    """Say which bounds act: hard (N, 2, 4), soft touched (N, 2, 9) and soft violated (N, 2, 9).

    Of each complementary pair (distance, multiplier) the larger counts, in units of the bound and
    of the pull of the weights.
    """
    lowest = limits.rotor_min - model.hover_input
    highest = limits.rotor_max - model.hover_input
    u, x = solution.inputs, solution.states[1:, FIRST : FIRST + NB]
    u_distance = np.stack((u - lowest, highest - u), axis=1)
    hard = solution.input_multipliers > 2 * np.diag(weights.input_weight) * u_distance
    x_max = limits.state_max
    x_distance = np.stack((x_max + x, x_max - x), axis=1) + solution.slacks
    touching = solution.state_multipliers / Z1 > x_distance / x_max
    violated = touching & (solution.slacks / x_max > solution.slack_multipliers / Z1)
    return hard, touching, violated


def multipliers_are_unique(model, weights, limits, solution):
    """Say whether the gradients of the acting, unviolated bounds are linearly independent."""
    hard, touching, violated = active_set(model, weights, limits, solution)
    N = len(solution.inputs)
    rows = [row for row, on in zip(np.eye(N * NU), hard.any(axis=1).ravel(), strict=True) if on]
    for k, _, i in np.argwhere(touching & ~violated):
        powers = [np.linalg.matrix_power(model.A, k - j) @ model.B for j in range(k + 1)]
        row = np.hstack([power[FIRST + i] for power in powers] + [np.zeros((N - k - 1) * NU)])
        rows.append(row / np.linalg.norm(row))
    return not rows or np.linalg.matrix_rank(np.array(rows), tol=1e-9) == len(rows)


def kkt_residual(model, weights, limits, solution):
    """Return the largest violation of the QP's KKT conditions by a primal-dual solution.

    Stationarity in the inputs and slacks (the states' multipliers are eliminated backwards),
    dynamics, bounds, signs and complementarity, in the units of the problem.
    """
    A, B, c = model.A, model.B, model.c
    x, u = solution.states, solution.inputs
    N = len(u)
    residuals = [x[1:] - x[:-1] @ A.T - u @ B.T - c]
    by_input = solution.input_multipliers[:, 1] - solution.input_multipliers[:, 0]
    by_state = np.zeros((N, NX))
    by_state[:, FIRST : FIRST + NB] = (
        solution.state_multipliers[:, 1] - solution.state_multipliers[:, 0]
    )
    costate = 2 * weights.terminal_weight @ x[N] + by_state[N - 1]
    for k in range(N - 1, -1, -1):
        residuals.append(2 * weights.input_weight @ u[k] + B.T @ costate + by_input[k])
        if k:
            costate = 2 * weights.state_weight @ x[k] + by_state[k - 1] + A.T @ costate
    s, lam, lam_s = solution.slacks, solution.state_multipliers, solution.slack_multipliers
    residuals.append(Z1 + Z2 * s - lam - lam_s)
    lowest = limits.rotor_min - model.hover_input
    highest = limits.rotor_max - model.hover_input
    bounded = x[1:, FIRST : FIRST + NB]
    x_max = limits.state_max
    for distance, multiplier in (
        (np.stack((u - lowest, highest - u), axis=1), solution.input_multipliers),
        (np.stack((x_max + bounded, x_max - bounded), axis=1) + s, lam),
        (s, lam_s),
    ):
        residuals += [np.minimum(distance, 0), np.minimum(multiplier, 0), distance * multiplier]
    return max(np.abs(residual).max() for residual in residuals)


def active_set_derivative(model, weights, limits, solution):
    """Return du_0/dx_0 (4, 12) and du_0/dtheta (4, 94) with the solution's active set held.

    Unknowns are the inputs alone: x = free x_0 + forced u (+ drift). An active hard bound fixes an
    input; a violated soft bound adds Z to the Hessian; a soft bound held exactly fixes a state.
    """
    A, B = model.A, model.B
    N = len(solution.inputs)
    free = np.vstack([np.linalg.matrix_power(A, k + 1) for k in range(N)])
    forced = np.zeros((N * NX, N * NU))
    for k in range(N):
        for j in range(k + 1):
            forced[k * NX : (k + 1) * NX, j * NU : (j + 1) * NU] = (
                np.linalg.matrix_power(A, k - j) @ B
            )

    curvature = np.zeros((N * NX, N * NX))
    for k in range(N):
        last = k == N - 1
        stage = slice(k * NX, (k + 1) * NX)
        curvature[stage, stage] = 2 * (weights.terminal_weight if last else weights.state_weight)
    hard, touching, violated = active_set(model, weights, limits, solution)
    fixed_rows = [
        row for row, on in zip(np.eye(N * NU), hard.any(axis=1).ravel(), strict=True) if on
    ]
    fixed_free = [np.zeros(NX) for _ in fixed_rows]
    for k, _, i in np.argwhere(touching):
        index = k * NX + FIRST + i
        if violated[k, :, i].any():
            curvature[index, index] += Z2
        else:
            fixed_rows.append(forced[index])
            fixed_free.append(free[index])
    hessian = np.kron(np.eye(N), 2 * weights.input_weight) + forced.T @ curvature @ forced
    n_fixed = len(fixed_rows)
    rows = np.array(fixed_rows).reshape(n_fixed, N * NU)
    kkt = np.block([[hessian, rows.T], [rows, np.zeros((n_fixed, n_fixed))]])

    # Right-hand sides: the gradient's derivative with respect to x_0, q, r and tril(L).
    columns = [np.vstack((forced.T @ curvature @ free, np.array(fixed_free).reshape(n_fixed, NX)))]
    x = solution.states[1:]
    by_theta = []
    for i in range(NX):
        pull = np.zeros((N, NX))
        pull[:-1, i] = 4 * weights.q[i] * x[:-1, i]
        by_theta.append(forced.T @ pull.ravel())
    for i in range(NU):
        pull = np.zeros((N, NU))
        pull[:, i] = 4 * weights.r[i] * solution.inputs[:, i]
        by_theta.append(pull.ravel())
    L = weights.terminal_factor
    for row, column in zip(*np.tril_indices(NX), strict=True):
        change = np.zeros((NX, NX))
        change[row, column] = 1
        pull = np.zeros((N, NX))
        pull[-1] = 2 * (change @ L.T + L @ change.T) @ x[-1]
        by_theta.append(forced.T @ pull.ravel())
    columns.append(np.vstack((np.array(by_theta).T, np.zeros((n_fixed, len(by_theta))))))
    # Least squares: the multipliers are not unique where rotor limits already fix a body rate.
    answer = -np.linalg.lstsq(kkt, np.hstack(columns), rcond=None)[0]
    return answer[:NU, :NX], answer[:NU, NX:]
