"""The composite (prox-linear) model of a flight's cost, and its step.

J is a convex function of the flight, and only the flight is a hard function of the weights. So only
the flight is linearised (``forward.py``), and the cost is kept as it is:

    m(d) = C(X + dX d, U + dU d) + rho sum max(0, |X + dX d| - x_max)  -  the same at d = 0
         = g' d + 1/2 d' H d + rho sum_j ( max(0, r_j + G_j d) - max(0, r_j) )

The quadratic part is Gauss-Newton's; the kinks of the penalty, which a gradient step stumbles over,
are part of the model. The step minimises m(d) + 1/2 d' diag(damping) d (Marquardt), whose dual is
a quadratic program in a box, one multiplier for each bound that is near,

    minimise 1/2 (g + G' y)' M^-1 (g + G' y) - r' y     0 <= y <= rho,     d = -M^-1 (g + G' y)

with M = H + diag(damping): tens of variables, solved by PIQP in half a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hmpc_ros.learning.objective import distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.forward import ForwardSensitivity
    from hmpc_ros.learning.objective import Objective
    from hmpc_ros.policy.flight import Flight

# A bound takes part when the state comes within this share of it; no sensible step crosses more.
REACH = 0.5
# Entries of H below this share of the largest are damped as if they were it.
DIAGONAL_FLOOR = 1e-3
# Least Marquardt damping: below it a Gauss-Newton matrix of 94 in single precision is not definite
# (94 x 6e-8, with room). A step on the boundary is within a tenth of the radius (More and Sorensen,
# 1983, section 3).
LEAST_DAMPING, NEAR = 1e-4, 0.1


@dataclass(frozen=True, eq=False)
class CompositeModel:
    """m(d), see above."""

    gradient: NDArray[np.float64]  #: g of the smooth part, (n,)
    hessian: NDArray[np.float64]  #: H, (n, n), positive semidefinite
    #: r, by how much each bound that is near is exceeded (negative inside), (m,)
    distances: NDArray[np.float64]
    slopes: NDArray[np.float64]  #: G, (m, n)
    penalty: float  #: rho

    @classmethod
    def of_flight(
        cls, flight: Flight, sensitivity: ForwardSensitivity, objective: Objective
    ) -> CompositeModel:
        """Build the model at a flight of T steps."""
        x, u = flight.deviations, flight.input_deviations
        weights_x = np.tile(objective.state_weights, (len(x), 1))
        weights_x[-1] = objective.terminal_weights
        weights_u = np.tile(objective.input_weights, (len(u), 1))
        gradient = 2 * (
            np.einsum('ti,tin->n', weights_x * x, sensitivity.states)
            + np.einsum('ti,tin->n', weights_u * u, sensitivity.inputs)
        )
        hessian = 2 * _gram(
            (np.sqrt(weights_x), sensitivity.states), (np.sqrt(weights_u), sensitivity.inputs)
        )

        bounded = x[:, objective.bounded]
        beyond = distances(x, objective.state_max)
        near = beyond > -REACH * objective.state_max
        near[0] = False  # where the flight starts does not depend on the weights
        slopes = np.sign(bounded)[near][:, None] * sensitivity.states[:, objective.bounded][near]
        return cls(gradient, hessian, beyond[near], slopes, objective.penalty)

    @classmethod
    def mean(cls, models: Sequence[CompositeModel]) -> CompositeModel:
        """Return the model of the mean cost of several flights under the same weights."""
        if len(models) == 1:
            return models[0]
        return cls(
            np.mean([model.gradient for model in models], axis=0),
            np.mean([model.hessian for model in models], axis=0),
            np.concatenate([model.distances for model in models]),
            np.concatenate([model.slopes for model in models]),
            models[0].penalty / len(models),
        )

    @property
    def scale(self) -> NDArray[np.float64]:
        """Diagonal of H, floored: what damping is measured in, (n,)."""
        diagonal = np.diag(self.hessian)
        return diagonal + DIAGONAL_FLOOR * diagonal.max()

    def change(self, d: NDArray[np.float64]) -> float:
        """Return m(d): by how much the cost is predicted to change."""
        violation = np.maximum(0.0, self.distances + self.slopes @ d)
        kinks = self.penalty * (violation.sum() - np.maximum(0.0, self.distances).sum())
        return float(self.gradient @ d + 0.5 * d @ self.hessian @ d + kinks)

    def step(self, damping: float) -> NDArray[np.float64]:
        """Return the minimiser of m(d) + damping/2 d' diag(scale) d, (n,).

        Raises:
            ValueError: The model is not finite, or the quadratic program was not solved.
        """
        if not np.isfinite(self.hessian).all() or not np.isfinite(self.slopes).all():
            raise ValueError('the sensitivities of the flight are not finite')
        # In units of `scale`, in which H is well conditioned.
        unit = 1.0 / np.sqrt(self.scale)
        curvature = self.hessian * np.outer(unit, unit)
        curvature.flat[:: len(unit) + 1] += damping
        factor = scipy.linalg.cho_factor(curvature, overwrite_a=True, check_finite=False)
        free = scipy.linalg.cho_solve(factor, unit * self.gradient, check_finite=False)
        if not self.distances.size:
            return -unit * free
        slopes = self.slopes * unit
        answers = scipy.linalg.cho_solve(factor, slopes.T, check_finite=False)
        y = _minimise_in_box(slopes @ answers, slopes @ free - self.distances, self.penalty)
        return -unit * (free + answers @ y)


def step_within(
    model: CompositeModel, radius: float, theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], bool]:
    """Return the step of a composite model in a trust region, and whether it ends on its boundary.

    Args:
        model: Of theta in units of its scales.
        radius: Longest step, as a share of theta; both in units of what they do to the cost.
        theta: In units of its scales, (n,).

    Raises:
        ValueError: The model is not finite, or a quadratic program was not solved.
    """
    scale = np.sqrt(model.scale)
    longest = radius * float(np.linalg.norm(scale * theta))
    low, high = math.log(LEAST_DAMPING), math.log(1 / LEAST_DAMPING)
    damping, boundary = low, False
    while True:
        d = model.step(math.exp(damping))
        length = float(np.linalg.norm(scale * d)) / longest
        if abs(length - 1) <= NEAR or (length < 1 and not boundary):
            return d, boundary
        if high - low < NEAR:
            return d / max(1.0, length), True
        boundary = True
        low, high = (damping, high) if length > 1 else (low, damping)
        damping = (low + high) / 2


def _gram(*parts: tuple[NDArray[np.float64], NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return the sum of (s D)' (s D) of parts with scales s (T, i) and derivatives D (T, i, n)."""
    # Single precision is plenty for a curvature, and twice as quick. One triangle is computed.
    n = parts[0][1].shape[-1]
    rows = np.empty((sum(s.size for s, _ in parts), n), dtype=np.float32)
    first = 0
    for s, D in parts:
        part = rows[first : first + s.size].reshape(*s.shape, n)
        np.multiply(s[:, :, None], D, out=part, casting='same_kind')
        first += s.size
    upper = scipy.linalg.blas.ssyrk(1.0, rows.T)
    return np.asarray(upper + np.triu(upper, 1).T, dtype=float)


def _minimise_in_box(
    P: NDArray[np.float64], c: NDArray[np.float64], upper: float
) -> NDArray[np.float64]:
    """Minimise 1/2 y' P y + c' y over 0 <= y <= upper, P positive semidefinite."""
    import piqp  # only this step needs it: a controller on its vehicle has none

    size = len(c)
    solver = piqp.DenseSolver()
    # In units of the upper bound, which is the same for all.
    solver.setup(upper * P, c, None, None, None, None, None, np.zeros(size), np.ones(size))
    if solver.solve() != piqp.PIQP_SOLVED:
        raise ValueError('the quadratic program of the composite step was not solved')
    return upper * np.asarray(solver.result.x)
