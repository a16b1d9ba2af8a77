"""Derivative of the tracking policy's command u_0 along a flight: by state, estimates and theta.

A solve is a stationary point of the plan's Lagrangian, with f, r and p of `model`,

    L = sum_{k<N} [ 1/2 |r(x_k, u_k, p_k)|^2 + pi_k' (f(x_k, u_k, p_k) - x_{k+1}) ]
        + 1/2 |r(x_N, p_N)|^2,                                        x_0 given,

with the bounds on u as in `linear.sensitivity`: they add the curvature D = lam / t (multiplier over
distance, both sides), 0 where inactive, without limit where active. Tilt and speed cost squares of
one-sided residuals, which L's own Hessian contains. Differentiated, the stationarity is the
optimality system of a linear-quadratic problem in the small changes of the plan with the *exact*
Hessian of L, and not the Gauss-Newton one that acados solves with: W (y = (x, u) by (y, e)), for
e = (thrust ratio, disturbance), which all stages share. One recursion solves it, J_. = df/d.:

    V_N = [P_N | Pi_N] = d2L_N/dx d(x, e)              (cost to go 1/2 x' P x + x' Pi e)
    W_k = d2L_k/dy d(y, e) + D_k + J_y' ( P_{k+1} [J_x J_u J_e] + [0 0 Pi_{k+1}] )
    S = W_uu,  K_k = -S^-1 W_u(x,e),  [P_k | Pi_k] = W_x(x,e) + W_xu K_k

    du_0/d(x_0, e) = K_0

theta acts everywhere, so its derivative goes the other way (the adjoint of the same system; it is
symmetric). The plan's answer to a linear cost w' u_0 is

    z_u0 = -S_0^-1 w,  z_xk+1 = J_x z_xk + J_u z_uk,  z_uk = K_k z_xk,  z_pi,k = P_{k+1} z_xk+1
    w' du_0/dtheta = sum_k [ (z_xk, z_uk)' d2L_k/dy dtheta + z_pi,k' df/dtheta ]

Single stages' Hessians are indefinite nearly always, harmlessly; what must be positive are the
pivots of every S, or the point is no minimum and has no derivative.

At real-time iterates this is the derivative that the plan would have if it were converged; along
smooth references it differs from that of the iterations themselves by less than 1 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmpc_ros.policy.elimination import SMALLEST_DISTANCE, eliminate
from hmpc_ros.policy.protocol import Loop, MissingDerivativeError
from hmpc_ros.policy.tracking import model
from hmpc_ros.policy.tracking.closed_loop import NominalPlant, augmented
from hmpc_ros.policy.tracking.derivative_code import N_ESTIMATED, TUNED, compiled, tangent
from hmpc_ros.policy.tracking.parameters import BLOCKS, N_THETA, TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.solution import TrackingSolution

NX, NU = model.NX, model.NU
_N_SHOWN = NX + N_ESTIMATED  # columns (x, e) of a gain
# Where (x, e) lies among the columns (x, u, e).
_SHOWN = [*range(NX), *range(NX + NU, NX + NU + N_ESTIMATED)]


class TrackingDerivative:
    """Derivative of u_0 at every solve of a flight of T steps; made by `differentiate`.

    Attributes:
        failed: indices of the steps that have no derivative; empty in a good flight.
    """

    def __init__(
        self,
        parameters: TrackingParameters,
        points: '_Points',
        failed: np.ndarray,
        estimates: np.ndarray,
    ) -> None:
        self.failed: tuple[int, ...] = tuple(int(step) for step in np.flatnonzero(failed))
        self._parameters, self._estimates = parameters, estimates
        self._points = points
        self._sweep = _factorise(points) if points.steps.size else None
        if self._sweep is not None:
            good = self._sweep.definite & np.isfinite(self._sweep.first_gain).all(axis=(1, 2))
            lost = set(points.steps[~good].tolist())
            self.failed = tuple(sorted({*self.failed, *lost}))
        self._length = len(failed)

    def require_complete(self) -> None:
        """Raise `MissingDerivativeError` if a step has no derivative."""
        if self.failed:
            raise MissingDerivativeError(self.failed, self._length)

    @property
    def state_gain(self) -> np.ndarray:
        """du_0/ds (T, 4, 17), s the errors (12) of `rigid_body` and the estimates (5).

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        sweep = self._complete()
        shown = sweep.first_gain[..., :NX] @ tangent(self._points.x[0][:, model.ATTITUDE])
        return np.concatenate((shown, sweep.first_gain[..., NX:]), axis=-1)

    def vjp(self, seeds: np.ndarray) -> np.ndarray:
        """Return sum_t w_t' du_0,t/dtheta (n,) for seeds w (T, 4), estimates held.

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        return self._products(np.asarray(seeds, dtype=float)[:, None]).sum(axis=(0, 1))

    def jacobian(self) -> np.ndarray:
        """Return du_0/dtheta (T, 4, n), estimates held.

        Raises:
            MissingDerivativeError: a step's solve failed.
        """
        return self._products(np.broadcast_to(np.eye(NU), (self._length, NU, NU)))

    def loop(self, flight: Any, plant: Any = None) -> Loop:
        """Return how the flight went on, the observer beside the vehicle.

        Args:
            flight: `TrackedFlight` that was differentiated, every step of it.
            plant: has ``jacobians(measured, inputs)`` as `NominalPlant`; None: that one, which is
                the vehicle as the policy's own model has it.
        """
        plant = plant or NominalPlant(self._parameters, flight.time_step)
        jacobians = plant.jacobians(flight.measured, flight.inputs)
        return augmented(
            self._parameters, flight.measured, flight.inputs, self._estimates, jacobians,
            flight.time_step,
        )  # fmt: skip

    def _complete(self) -> '_Sweep':
        self.require_complete()
        assert self._sweep is not None
        return self._sweep

    def _products(self, seeds: np.ndarray) -> np.ndarray:
        """Return w' du_0/dtheta (T, R, n) for seeds w (T, R, 4)."""
        sweep, points, functions = self._complete(), self._points, compiled()
        steps, count, _ = seeds.shape
        horizon = len(points.u)

        def each(array: np.ndarray) -> np.ndarray:
            return np.repeat(array, count, axis=0) if count > 1 else array

        def flat(array: np.ndarray) -> np.ndarray:
            return array.reshape(steps * count, -1)

        stages = np.zeros((steps * count, TUNED.stop - TUNED.start))
        z = np.zeros((steps, count, NX + NU))
        z[..., NX:] = -seeds @ sweep.first_inverse
        for k in range(horizon):
            if k:
                z[..., NX:] = z[..., :NX] @ sweep.gains[k].swapaxes(1, 2)
            z_next = z @ sweep.jacobians[k][:, : NX + NU]
            z_pi = z_next @ sweep.values[k]
            stages += functions['stage_pull'](
                each(points.x[k]), each(points.u[k]), each(points.pi[k]), each(points.p[k]),
                flat(z), flat(z_pi),
            )[0][:, 0]  # fmt: skip
            z[..., :NX] = z_next
        last = functions['last_stage_pull'](
            each(points.x[-1]), each(points.p[-1]), flat(z[..., :NX])
        )[0][:, 0]
        return self._by_theta(stages, last).reshape(steps, count, N_THETA)

    def _by_theta(self, stages: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Turn derivatives by the `TUNED` parameters of the stages and of the last into theta's.

        The last stage's weights are those of the others times sqrt(terminal)
        (`TrackingPolicy.set_parameters`); slack costs and model are the same.
        """
        derivative = np.zeros((len(stages), N_THETA))
        ratio = math.sqrt(float(self._parameters.terminal[0]))
        scaled = slice(model.STAGE['position'].start, model.STAGE['rate_commands'].stop)
        for name, part in BLOCKS.items():
            if name not in model.STAGE:
                continue
            where = model.STAGE[name]
            own = slice(where.start - TUNED.start, where.stop - TUNED.start)
            if scaled.start <= where.start < scaled.stop:
                derivative[:, part] = stages[:, own] + ratio * last[:, own]
                weight = getattr(self._parameters, name)
                derivative[:, BLOCKS['terminal']] += last[:, own] @ weight[:, None] / (2 * ratio)
            else:
                derivative[:, part] = stages[:, own] + last[:, own]
        return derivative


def differentiate(
    solutions: Sequence[TrackingSolution], parameters: TrackingParameters, limits: TrackingLimits
) -> TrackingDerivative:
    """Differentiate the policy at the T solutions of a flight, under what it flew with.

    A solve that failed, or at which the recursion finds no minimum, is listed in ``failed`` of what
    is returned; nothing is raised here for it.

    Raises:
        ValueError: there are no solutions.
        CodeGenerationError: the derivative's code cannot be compiled.
    """
    if not solutions:
        raise ValueError('no solutions to differentiate: a flight needs at least one solve')
    failed = np.array([not (s.ok and np.isfinite(s.flat).all()) for s in solutions])
    usable = np.flatnonzero(~failed)
    estimates = np.array([s.estimate for s in solutions])
    points = _Points.of(solutions, usable, limits)
    return TrackingDerivative(parameters, points, failed, estimates)


@dataclass(frozen=True, eq=False)
class _Points:
    """Where T' good solves are differentiated; the stage comes first."""

    steps: np.ndarray  # (T',) their indices in the flight
    x: np.ndarray  # (N+1, T', 14)
    u: np.ndarray  # (N, T', 4)
    pi: np.ndarray  # (N, T', 14)
    p: np.ndarray  # (N+1, T', NP)
    curvature: np.ndarray  # (N, T', 4) that the bounds on u add

    @classmethod
    def of(
        cls, solutions: Sequence[TrackingSolution], steps: np.ndarray, limits: TrackingLimits
    ) -> '_Points':
        """Gather them."""
        n = len(solutions[0].inputs)
        chosen = [solutions[step] for step in steps]

        def by_stage(arrays: list[np.ndarray], *shape: int) -> np.ndarray:
            stacked = np.array(arrays).reshape(len(steps), *shape)
            return np.ascontiguousarray(stacked.swapaxes(0, 1))

        multipliers = by_stage([s.costates for s in chosen], n, NX)
        u = by_stage([s.inputs for s in chosen], n, NU)
        pulls = by_stage([s.input_multipliers for s in chosen], n, 2, NU)
        distances = np.stack((u - limits.input_min, limits.input_max - u), axis=2)
        curvature = np.maximum(pulls, 0.0) / np.maximum(distances, SMALLEST_DISTANCE)
        return cls(
            steps,
            by_stage([s.states for s in chosen], n + 1, NX),
            u,
            multipliers,
            by_stage([s.parameters for s in chosen], n + 1, model.NP),
            curvature.sum(axis=2),
        )


@dataclass(frozen=True, eq=False)
class _Sweep:
    """What the recursion leaves for the adjoint, of T' solves."""

    jacobians: np.ndarray  # (N, T', 22, 14), df/d(x, u, e) transposed
    gains: np.ndarray  # (N, T', 4, 14)
    values: np.ndarray  # (N, T', 14, 14): P_1 ... P_N
    first_gain: np.ndarray  # (T', 4, 18), K_0 of (x, e)
    first_inverse: np.ndarray  # (T', 4, 4), S_0^-1
    definite: np.ndarray  # (T',) whether all pivots were positive


@np.errstate(invalid='ignore', over='ignore')  # a step that is no minimum may end anywhere
def _factorise(points: _Points) -> _Sweep:
    functions = compiled()
    horizon, steps, _ = points.u.shape
    jacobians = np.empty((horizon, steps, NX + NU + N_ESTIMATED, NX))
    gains = np.empty((horizon, steps, NU, NX))
    values = np.empty((horizon, steps, NX, NX))
    definite = np.ones(steps, dtype=bool)
    identity = np.repeat(np.eye(NU)[:, :, None], steps, axis=2)
    inputs = np.arange(NX, NX + NU)
    shared = slice(NX + NU, None)
    # V' = [P | Pi]' (T', 18, 14).
    V = functions['last_stage'](points.x[-1], points.p[-1])[0]
    for k in range(horizon - 1, -1, -1):
        J, W = functions['stage'](points.x[k], points.u[k], points.pi[k], points.p[k])
        P = (V[:, :NX] + V[:, :NX].swapaxes(1, 2)) / 2  # rounding would grow from stage to stage
        G = J @ P
        G[:, shared] += V[:, NX:]
        W += G @ J[:, : NX + NU].swapaxes(1, 2)  # (T', 22, 18), transposed like J
        W[:, inputs, inputs] += points.curvature[k]
        columns = W[:, [*inputs, *_SHOWN], NX:].transpose(2, 1, 0)
        solved, positive = eliminate(np.concatenate((columns, identity), axis=1))
        definite &= positive
        K = -solved[:, NU : NU + _N_SHOWN].transpose(2, 1, 0)  # (T', 18, 4)
        V = W[:, _SHOWN, :NX] + K @ W[:, :NX, NX:].swapaxes(1, 2)
        jacobians[k], values[k], gains[k] = J, P, K[:, :NX].swapaxes(1, 2)
    inverse = solved[:, NU + _N_SHOWN :].transpose(2, 0, 1)
    return _Sweep(jacobians, gains, values, K.swapaxes(1, 2), inverse, definite)
