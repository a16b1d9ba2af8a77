"""Derivative of the MPC's input ``u_0 = MPC(x, theta)`` with respect to state and weights.

Every solve of a flight is differentiated at once from the primal-dual solutions: one Riccati
recursion over the horizon, batched over the flight. acados is not called, so the code is the same
for every version of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.protocol import PlantJacobians
from hmpc_ros.plant.quadcopter import NU, NX, POSITION
from hmpc_ros.policy.elimination import SMALLEST_DISTANCE
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear import riccati
from hmpc_ros.policy.linear.limits import BOUNDED_STATES, N_BOUNDED, Limits
from hmpc_ros.policy.linear.mpc import Solution
from hmpc_ros.policy.linear.qp_solver import SolutionLayout
from hmpc_ros.policy.linear.riccati import Riccati
from hmpc_ros.policy.linear.weights import (
    P_PART,
    Q_PART,
    R_PART,
    SPACE,
    TRIL_COLUMNS,
    TRIL_ROWS,
    Weights,
)
from hmpc_ros.policy.parameters import ParameterSpace
from hmpc_ros.policy.protocol import Loop, MissingDerivativeError

# The derivation (acados' convention: 1/2 H with H_x = 2 Q, H_u = 2 R, H_N = 2 P).
#
# At its solution an interior-point solver satisfies, with a tiny mu,
#
#     hard bound  u <= b:      lam t = mu,  t = b - u
#     soft bound  x <= b + s:  lam t = mu,  t = b + s - x,   lam_s s = mu,
#                              z + Z s = lam + lam_s         (cost z s + 1/2 Z s^2)
#
# Differentiate. With d = lam / t and d_s = lam_s / s the complementarities read
# dlam = -d dt and dlam_s = -d_s ds, so that
#
#     hard:  dlam = d du
#     soft:  dlam = d (dx - ds),  Z ds = dlam - d_s ds
#            =>  ds = d / (Z + d + d_s) dx
#            =>  dlam = d (Z + d_s) / (Z + d + d_s) dx
#
# The multipliers of a stage move in proportion to its own input or state. All the bounds together
# therefore act as a curvature added to the stage cost,
#
#     hard side   D = d                                 -> 0 inactive, -> infinity at the bound
#     soft side   D = d (Z + d_s) / (Z + d + d_s)       -> 0 inactive, -> Z violated,
#                                                       -> infinity held exactly at the bound
#
# and what is left of the differentiated KKT system is the optimality system of a linear-quadratic
# problem without bounds, which one Riccati recursion solves (riccati.py): du_0/dx_0 = K_0.
#
# For the weights: with y = (u_0, x_1, u_1, ..., x_N), F(y, theta) = 0 the KKT system and M = dF/dy,
#
#     w' du_0/dtheta = -w' M^-1 dF/dtheta = z' dF/dtheta,     M z = -(w, 0, ...)
#
# M is symmetric, so z is the plan's answer to the linear cost w' u_0:
# z_u0 = -S_0^-1 w, z_x1 = B z_u0, then z_uk = K_k z_xk, z_x(k+1) = A z_xk + B z_uk. The weights
# enter F through H_x x_k, H_u u_k and H_N x_N only, and x_0 is given:
#
#     d/dq_i = 4 q_i sum_{k=1..N-1} z_xk,i x_k,i
#     d/dr_i = 4 r_i sum_{k=0..N-1} z_uk,i u_k,i
#     d/dL   = 2 (z_N (x_N' L) + x_N (z_N' L)),  lower triangle
#
# The slacks' costs l s + c s^2 (z = l, Z = 2 c) enter a stationarity of their own. With
# g = dz + s dZ it reads  Z ds + g = dlam - d_s ds,  and what is left in a state's is the force
#
#     F <- F +- d / (Z + d + d_s) g        upper bound +, lower -; 0 inactive, -> g violated
#
# x_k and u_k are the solution's, whatever the model's drift c is; z never sees c. At a degenerate
# active set (bound and multiplier both vanish) u_0 has a kink, and this is the derivative of the
# solution smoothed by the barrier: it lies between the one-sided ones.


@dataclass(frozen=True, eq=False)
class _Steps:
    """Steps of a flight that are differentiated alike: their indices, gains and solutions.

    ``riccati`` has one problem per step, or a single one that serves them all.
    """

    indices: np.ndarray  # (n,)
    riccati: Riccati
    states: np.ndarray  # (N + 1, 12, n)
    inputs: np.ndarray  # (N, 4, n)
    slack: np.ndarray | None = None  # (2, N, 9, n), of F by l and c; None: no bound acts

    def response(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return z_x (N, 12, R, n) and z_u (N, 4, R, n) for the seeds (R, T, 4) of a flight."""
        w = np.ascontiguousarray(seeds[:, self.indices].transpose(2, 0, 1))  # (4, R, n)
        if self.riccati.gains.shape[-1] == w.shape[-1]:
            return self.riccati.seed_response(w)
        # One linear map for all steps: the answers to the four unit seeds.
        unit_x, unit_u = self.riccati.seed_response(np.eye(NU)[:, :, None])
        columns = w.reshape(NU, -1)
        z_x = unit_x[..., 0].reshape(-1, NU) @ columns
        z_u = unit_u[..., 0].reshape(-1, NU) @ columns
        return z_x.reshape(-1, NX, *w.shape[1:]), z_u.reshape(-1, NU, *w.shape[1:])


class Sensitivity:
    """Derivative of u_0 at every solve of a flight of T steps; made by `factorise`.

    Attributes:
        failed_steps: indices of the steps that have no derivative; empty in a good flight.
        bounded_steps: how many steps had a bound that mattered anywhere in the horizon.
    """

    def __init__(
        self,
        weights: Weights,
        groups: list[_Steps],
        failed: np.ndarray,
        bounded_steps: int,
        moved: dict[int, np.ndarray],
        space: ParameterSpace = SPACE,
    ) -> None:
        self._size, self._slack_part = space.size, space.parts.get('slack')
        self.failed_steps: tuple[int, ...] = tuple(int(step) for step in np.flatnonzero(failed))
        self.bounded_steps = int(bounded_steps)
        self._weights = weights
        self._groups = groups
        self._moved = moved  # derivative (3, 3) of the position shown, where it is not the true one
        self._length = len(failed)

    def require_complete(self) -> None:
        """Raise `MissingDerivativeError` if a step has no derivative."""
        if self.failed_steps:
            raise MissingDerivativeError(self.failed_steps, self._length)

    @property
    def state_gain(self) -> np.ndarray:
        """du_0/dx (T, 4, 12), x the state in the goal frame [rad/s per state unit].

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        self.require_complete()
        gain = np.empty((self._length, NU, NX))
        for group in self._groups:
            gain[group.indices] = group.riccati.gains[0].transpose(2, 0, 1)
        for step, derivative in self._moved.items():
            gain[step, :, POSITION] = gain[step, :, POSITION] @ derivative
        return gain

    def vjp(self, seeds: np.ndarray) -> np.ndarray:
        """Return sum_t w_t' du_0,t/dtheta (n,) for seeds w (T, 4).

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        self.require_complete()
        seeds = np.asarray(seeds)[None]
        factor = self._weights.terminal_factor
        gradient = np.zeros(self._size)
        for group in self._groups:
            z_x, z_u = group.response(seeds)
            z_x, z_u = z_x[:, :, 0], z_u[:, :, 0]
            gradient[Q_PART] += np.einsum('kit,kit->i', z_x[:-1], group.states[1:-1])
            gradient[R_PART] += np.einsum('kit,kit->i', z_u, group.inputs)
            outer = z_x[-1] @ group.states[-1].T
            gradient[P_PART] += 2 * ((outer + outer.T) @ factor)[TRIL_ROWS, TRIL_COLUMNS]
            if self._slack_part is not None and group.slack is not None:
                by_slack = np.einsum('kbt,jkbt->jb', z_x[:, BOUNDED_STATES], group.slack)
                gradient[self._slack_part] += by_slack.ravel()
        gradient[Q_PART] *= 4 * self._weights.q
        gradient[R_PART] *= 4 * self._weights.r
        return gradient

    def jacobian(self) -> np.ndarray:
        """Return du_0/dtheta (T, 4, n).

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        unit = np.broadcast_to(np.eye(NU)[:, None, :], (NU, self._length, NU))
        return self._products(unit)

    def loop(self, flight: Flight, plant: PlantJacobians) -> Loop:
        """Return the plant's Jacobians in the goal frame: the MPC remembers nothing."""
        return Loop(*plant.jacobians_along(flight.deviations[:-1], flight.inputs))

    def _products(self, seeds: np.ndarray) -> np.ndarray:
        """Return w' du_0/dtheta (T, R, n) for seeds w (R, T, 4)."""
        self.require_complete()
        factor = self._weights.terminal_factor
        products = np.empty((self._length, len(seeds), self._size))
        for group in self._groups:
            z_x, z_u = group.response(seeds)
            z_N = z_x[-1].transpose(2, 1, 0)  # (n, R, 12)
            x_N = group.states[-1].T[:, None]  # (n, 1, 12)
            terminal = z_N[..., None] * (x_N @ factor)[..., None, :]
            terminal += x_N[..., None] * (z_N @ factor)[..., None, :]
            part = np.zeros((len(group.indices), len(seeds), self._size))
            part[..., Q_PART] = np.einsum('kirt,kit->tri', z_x[:-1], group.states[1:-1])
            part[..., Q_PART] *= 4 * self._weights.q
            part[..., R_PART] = np.einsum('kirt,kit->tri', z_u, group.inputs)
            part[..., R_PART] *= 4 * self._weights.r
            part[..., P_PART] = 2 * terminal[..., TRIL_ROWS, TRIL_COLUMNS]
            if self._slack_part is not None and group.slack is not None:
                by_slack = np.einsum('kbrt,jkbt->trjb', z_x[:, BOUNDED_STATES], group.slack)
                part[..., self._slack_part] = by_slack.reshape(*part.shape[:2], -1)
            products[group.indices] = part
        return products


def factorise(
    model: LinearModel,
    weights: Weights,
    limits: Limits,
    solutions: Sequence[Solution],
    interior: Riccati | None = None,
    space: ParameterSpace = SPACE,
) -> Sensitivity:
    """Differentiate the MPC at the T solutions of a flight.

    Args:
        model: the prediction model the solves used.
        weights: the weights the solves used.
        limits: the limits the solves used.
        solutions: T solves over one horizon; of a single one for a single derivative.
        interior: the recursion without bounds, if the caller has it (`UnconstrainedPlan.riccati`).
        space: what of the weights is theta.

    A solve that failed, or at whose solution the recursion breaks down, is listed in
    ``failed_steps`` of what is returned; nothing is raised here.

    Raises:
        ValueError: there are no solutions.
    """
    layout, flat = _stack(solutions)
    usable = np.array([solution.ok for solution in solutions]) & np.isfinite(flat).all(axis=1)
    # Where no bound pulls at all (the solution is an unconstrained plan, unconstrained.py), the
    # recursion is the same for every step.
    pulled = np.zeros(len(solutions), dtype=bool)
    for name in ('input_multipliers', 'state_multipliers'):
        pulled |= flat[:, layout.slices[_PARTS.index(name)]].any(axis=1)
    groups = []
    free, bounded = np.flatnonzero(usable & ~pulled), np.flatnonzero(usable & pulled)
    if free.size:
        parts = _Parts.of(layout, flat[free])
        recursion = interior or unbounded_recursion(model, weights, len(parts.inputs))
        groups.append(_Steps(free, recursion, parts.states, parts.inputs))
    if bounded.size:
        parts = _Parts.of(layout, flat[bounded])
        sides = _Sides.of(parts, model, limits)
        Z = 2 * weights.slack[1][:, None]
        batch = riccati.factorise(model, weights, *sides.curvatures(Z))
        groups.append(_Steps(bounded, batch, parts.states, parts.inputs, sides.slack_forces(Z)))
        usable[bounded] = np.isfinite(batch.gains).all(axis=(0, 1, 2))
    moved = {
        step: _shown_position(solution.states[0, POSITION], solution.unseen)
        for step, solution in enumerate(solutions)
        if solution.unseen is not None
    }
    return Sensitivity(weights, groups, ~usable, bounded.size, moved, space)


def _shown_position(shown: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Return the derivative (3, 3) of r d / |d| at d = shown + unseen, r = |shown|."""
    d = shown + unseen
    distance = np.linalg.norm(d)
    n = d / distance
    return np.linalg.norm(shown) / distance * (np.eye(3) - np.outer(n, n))


def unbounded_recursion(model: LinearModel, weights: Weights, horizon: int) -> Riccati:
    """Return the recursion of the MPC without bounds, as one problem that serves every state."""
    no_pull = np.zeros((horizon, NU, 1)), np.zeros((horizon, N_BOUNDED, 1))
    return riccati.factorise(model, weights, *no_pull, keep_values=True)


@dataclass(frozen=True, eq=False)
class _Sides:
    """Distances and multipliers of every bound of n solves: (2, N, bounds, n), lower side first."""

    u_distance: np.ndarray
    u_multiplier: np.ndarray
    x_distance: np.ndarray
    x_multiplier: np.ndarray
    slack: np.ndarray
    slack_multiplier: np.ndarray

    @classmethod
    def of(cls, parts: '_Parts', model: LinearModel, limits: Limits) -> '_Sides':
        """Read them from solutions, floored where they are the solver's rounding."""

        def by_side(array: np.ndarray, floor: float) -> np.ndarray:
            return np.maximum(array.swapaxes(0, 1), floor)

        lowest, highest = limits.input_range(model.hover_input)
        x_max = limits.state_max[:, None]
        u, x = parts.inputs, parts.states[1:, BOUNDED_STATES]
        u_distance = np.stack((u - lowest[:, None], highest[:, None] - u), axis=1)
        x_distance = np.stack((x_max + x, x_max - x), axis=1) + parts.slacks
        return cls(
            u_distance=by_side(u_distance, SMALLEST_DISTANCE),
            u_multiplier=by_side(parts.input_multipliers, 0.0),
            x_distance=by_side(x_distance, SMALLEST_DISTANCE),
            x_multiplier=by_side(parts.state_multipliers, 0.0),
            slack=by_side(parts.slacks, SMALLEST_DISTANCE),
            slack_multiplier=by_side(parts.slack_multipliers, 0.0),
        )

    def curvatures(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return D_u (N, 4, n) and D_x (N, 9, n), both sides together; Z (9, 1) of the slacks."""
        hard = self.u_multiplier / self.u_distance
        d = self.x_multiplier / self.x_distance
        d_s = self.slack_multiplier / self.slack
        soft = d * (Z + d_s) / (Z + d + d_s)
        return hard.sum(axis=0), soft.sum(axis=0)

    def slack_forces(self, Z: np.ndarray) -> np.ndarray:
        """Return dF/dl and dF/dc (2, N, 9, n) of the bounded states' stationarity."""
        d = self.x_multiplier / self.x_distance
        share = d / (Z + d + self.slack_multiplier / self.slack)
        by_cost = np.stack((share, 2 * self.slack * share))  # (2, sides, N, 9, n)
        return by_cost[:, 1] - by_cost[:, 0]


@dataclass(frozen=True, eq=False)
class _Parts:
    """The primal-dual solutions of n solves, the solve's index last (shapes: `Solution`)."""

    states: np.ndarray
    inputs: np.ndarray
    slacks: np.ndarray
    input_multipliers: np.ndarray
    state_multipliers: np.ndarray
    slack_multipliers: np.ndarray

    @classmethod
    def of(cls, layout: SolutionLayout, flat: np.ndarray) -> '_Parts':
        """Split solutions (n, size)."""
        last = np.ascontiguousarray(flat.T)
        return cls(
            *(
                last[part].reshape(*shape, len(flat))
                for part, shape in zip(layout.slices, layout.shapes, strict=True)
            )
        )


_PARTS = [field.name for field in fields(_Parts)]


def _stack(solutions: Sequence[Solution]) -> tuple[SolutionLayout, np.ndarray]:
    """Return the solutions as one array (n, size), and their common layout.

    Raises:
        ValueError: there are none.
    """
    if not solutions:
        raise ValueError('no solutions to differentiate: a flight needs at least one solve')
    return solutions[0].layout, np.array([solution.flat for solution in solutions])
