"""The offline shortcut: where no bound matters, the MPC is a fixed affine map of the state.

Let the plan u_k = K_k x_k + kappa_k solve the MPC's problem without its bounds. Where that plan
keeps every bound over the whole horizon, it satisfies the KKT conditions of the full problem with
slacks and multipliers of zero, and as the problem is strictly convex it is *the* solution. Finding
that out costs two small matrix-vector products instead of a call to acados.

For offline flights only. The ROS controller always solves.
"""

import time
from collections.abc import Sequence

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.linear import sensitivity
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import BOUNDED_STATES, Limits
from hmpc_ros.policy.linear.mpc import Mpc, Solution
from hmpc_ros.policy.linear.sensitivity import Sensitivity
from hmpc_ros.policy.linear.weights import Weights
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.protocol import SolveStatus

# The part of a bound's distance from the middle of its range that a plan must leave free.
MARGIN = 1e-3
# States beyond this, infinity or NaN are left to the solver, which names the failure.
_ABSURD = 1e100


class UnconstrainedPlan:
    """The MPC's plan without bounds, for one model and one set of weights.

    Attributes:
        model, weights, limits: what it was made of.
        riccati: the recursion's gains, which are also its derivative.
    """

    def __init__(
        self,
        model: LinearModel,
        weights: Weights,
        limits: Limits,
        horizon: int,
        margin: float = MARGIN,
    ) -> None:
        self.model, self.weights, self.limits = model, weights, limits
        self.riccati = sensitivity.unbounded_recursion(model, weights, horizon)
        A, B, c = model.A, model.B, model.c
        K = self.riccati.gains[..., 0]
        values = self.riccati.values
        assert values is not None
        P = values[..., 0]  # P[k] is P_(k+1)

        # The drift c makes the cost to go 1/2 x' P_k x + p_k' x + const. From
        # u_k = argmin 1/2 u' H_u u + 1/2 x+' P_(k+1) x+ + p_(k+1)' x+,  x+ = A x + B u + c:
        #     kappa_k = -S_k^-1 B' (P_(k+1) c + p_(k+1)),   S_k = H_u + B' P_(k+1) B
        #     p_k     = A' (P_(k+1) (B kappa_k + c) + p_(k+1)),   p_N = 0
        kappa = np.zeros((horizon, NU))
        if c.any():
            p = np.zeros(NX)
            for k in range(horizon - 1, -1, -1):
                S = 2 * weights.input_weight + B.T @ P[k] @ B
                kappa[k] = -np.linalg.solve(S, B.T @ (P[k] @ c + p))
                p = A.T @ (P[k] @ (B @ kappa[k] + c) + p)

        # x_k = X_k x_0 + xi_k and u_k = K_k x_k + kappa_k, the whole plan as one affine map.
        X = np.empty((horizon + 1, NX, NX + 1))  # last column: xi_k
        U = np.empty((horizon, NU, NX + 1))
        X[0] = np.eye(NX, NX + 1)
        for k in range(horizon):
            U[k] = K[k] @ X[k]
            U[k, :, -1] += kappa[k]
            X[k + 1] = A @ X[k] + B @ U[k]
            X[k + 1, :, -1] += c
        self._first_map = _AffineMap(U[0])
        self._plan_map = _AffineMap(np.concatenate((X.reshape(-1, NX + 1), U.reshape(-1, NX + 1))))

        # Every bounded entry of the plan, scaled so that its bounds are -1 and 1.
        lowest, highest = limits.input_range(model.hover_input)
        U[:, :, -1] -= (highest + lowest) / 2
        U /= ((highest - lowest) / 2)[:, None]
        bounded = X[1:, BOUNDED_STATES] / limits.state_max[:, None]
        scaled = np.concatenate((bounded.reshape(-1, NX + 1), U.reshape(-1, NX + 1)))
        self._scaled_map = _AffineMap(scaled)
        self._reach = 1.0 - margin

    def holds(self, deviation: np.ndarray) -> bool:
        """Say whether the plan from a state deviation (12,) keeps every bound with the margin.

        The plan from a state that is not finite never does.
        """
        if not np.abs(deviation).max() < _ABSURD:
            return False
        scaled = self._scaled_map(deviation)
        return bool(scaled.max() <= self._reach and scaled.min() >= -self._reach)

    def first_input(self, deviation: np.ndarray) -> np.ndarray:
        """Return the first input (4,) [rad/s from hover] of the plan alone."""
        return self._first_map(deviation)

    def plan(self, deviation: np.ndarray) -> np.ndarray:
        """Return states (N + 1, 12), then inputs (N, 4) [rad/s from hover], as one vector."""
        return self._plan_map(deviation)


class _AffineMap:
    """x -> M x + b, from the columns [M b]."""

    def __init__(self, columns: np.ndarray) -> None:
        self._matrix = columns[:, :-1].copy()
        self._offset = columns[:, -1].copy()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._matrix @ x + self._offset


class OfflineMpc:
    """The MPC of offline flights: `Mpc`, spared the calls to acados that a plan can answer.

    Weights, model and limits are the `Mpc`'s, and are changed there. With ``shortcut=False``
    every solve is acados'.

    Attributes:
        origin: the goal in whose frame states are their own deviations.
        planned: how many solves the unconstrained plan has answered.
        solved: how many acados has.
    """

    origin = Goal()

    def __init__(self, mpc: Mpc, shortcut: bool = True) -> None:
        self.mpc = mpc
        self.shortcut = shortcut
        self.planned = 0
        self.solved = 0
        self._made: UnconstrainedPlan | None = None
        self._no_bound_acts = np.zeros(mpc.layout.size)

    @property
    def model(self) -> LinearModel:
        """The prediction model."""
        return self.mpc.model

    @property
    def limits(self) -> Limits:
        """The bounds."""
        return self.mpc.limits

    @property
    def weights(self) -> Weights:
        """The cost weights."""
        return self.mpc.weights

    @property
    def trim_input(self) -> np.ndarray:
        """Rotor speeds (4,) [rad/s] that input deviations are from."""
        return self.mpc.model.hover_input

    @property
    def parameters(self) -> Parameters:
        """Cost weights and prediction model."""
        return self.mpc.parameters

    def use(self, parameters: Parameters) -> None:
        """Fly with other weights and another model; the plan is kept where they are the same."""
        self.mpc.use(parameters)

    def refit(self, parameters: Parameters, surrogate: Surrogate) -> Parameters:
        """Return the parameters with the surrogate's linearisation at hover as their model."""
        return parameters.with_fixed({'model': surrogate.hover_model().entries})

    def retune(self, parameters: Parameters, start: Parameters) -> Parameters:
        """Return the parameters with the start's q and r, and with p of their Riccati equation.

        Raises:
            ValueError: it has no stabilising solution for the parameters' model.
        """
        model = self.mpc.model.with_entries(parameters.fixed['model'])
        weighed = Weights.of(start)
        tuned = Weights.for_model(model, weighed.q, weighed.r, weighed.slack)
        return parameters.with_theta(parameters.space.pack(vars(tuned)))

    def set_weights(self, weights: Weights) -> None:
        """Solve with other cost weights from now on."""
        self.mpc.set_weights(weights)

    def set_model(self, model: LinearModel) -> None:
        """Predict with another model from now on."""
        self.mpc.set_model(model)

    def reset(self) -> None:
        """Forget the last solution, as at the beginning of a flight."""
        self.mpc.reset()

    def plan(self) -> UnconstrainedPlan:
        """Return the plan of the present weights, model and limits."""
        made, mpc = self._made, self.mpc
        if (
            made is None
            or made.weights is not mpc.weights
            or made.model is not mpc.model
            or made.limits is not mpc.limits
        ):
            made = UnconstrainedPlan(mpc.model, mpc.weights, mpc.limits, mpc.horizon)
            self._made = made
            # Stationarity in a slack of zero: its own multiplier is the slope of the penalty.
            slopes = self._no_bound_acts[mpc.layout.slices[-1]].reshape(mpc.layout.shapes[-1])
            slopes[:] = mpc.weights.slack[0]
        return made

    def solve(self, x: np.ndarray, goal: Goal) -> Solution:
        """Solve at a measured state (12,): the same QP and result as `Mpc.solve`.

        A planned solution took no iterations; its slacks and its bounds' multipliers are exactly
        zero.
        """
        return self.solve_deviation(goal.deviation(x))

    def solve_deviation(self, deviation: np.ndarray) -> Solution:
        """Solve at a state in the goal frame (12,); see `solve`."""
        if self.shortcut:
            started = time.perf_counter()
            plan = self.plan()
            shown, unseen = self.limits.shown(deviation)
            if plan.holds(shown):
                self.planned += 1
                return self._planned(plan, shown, unseen, started)
        self.solved += 1
        return self.mpc.solve_deviation(deviation)

    def fallback(self, _x: np.ndarray, _goal: Goal) -> np.ndarray:
        """Return the rotor speeds (4,) that carry the level vehicle."""
        return self.trim_input

    def first_input(self, deviation: np.ndarray) -> np.ndarray | None:
        """Return the first input (4,) [rad/s from hover] alone; None where there is none."""
        if self.shortcut:
            plan = self.plan()
            if plan.holds(deviation):
                return plan.first_input(deviation)
        solution = self.solve_deviation(deviation)
        return solution.input - self.trim_input if solution.ok else None

    def differentiate(self, solutions: Sequence[Solution]) -> Sensitivity:
        """Differentiate at the solutions of a flight, flown with the present weights and model."""
        mpc = self.mpc
        interior = self.plan().riccati if self.shortcut else None
        return sensitivity.factorise(
            mpc.model, mpc.weights, mpc.limits, solutions, interior, mpc.space
        )

    def _planned(
        self,
        plan: UnconstrainedPlan,
        deviation: np.ndarray,
        unseen: np.ndarray | None,
        started: float,
    ) -> Solution:
        layout = self.mpc.layout
        inputs = layout.slices[1]
        flat = self._no_bound_acts.copy()
        flat[: inputs.stop] = plan.plan(deviation)  # states, then inputs
        u = flat[inputs.start : inputs.start + NU] + plan.model.hover_input
        total_time = time.perf_counter() - started
        return Solution(SolveStatus.SUCCESS, u, flat, layout, 0, 0.0, total_time, unseen)
