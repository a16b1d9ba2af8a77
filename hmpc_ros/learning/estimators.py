"""Estimators of dJ/dtheta at the weights of a flight: model-based, zeroth-order and combinations.

Each has one method, ``estimate``: a generator that asks for the flights it needs beyond the nominal
one (``hmpc_ros.learning.requests``) and returns a ``GradientEstimate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hmpc_ros.learning.requests import PERTURBED, FlightRequest
from hmpc_ros.plant.declared import parameter
from hmpc_ros.policy.protocol import MissingDerivativeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import Asking, Evaluation
    from hmpc_ros.learning.schedules import Trust
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.parameters import Parameters


@dataclass(frozen=True, eq=False)
class GradientEstimate:
    """An estimate of dJ/dtheta and the parts that it was made of."""

    gradient: NDArray[np.float64]  #: what the update should follow, (n,)
    model: NDArray[np.float64] | None  #: the model-based part, (n,), where there is one
    free: NDArray[np.float64] | None  #: the zeroth-order part, (n,), where there is one
    trust: float  #: eta_k, the weight that the model-based part had
    notes: tuple[str, ...] = ()  #: what went wrong on the way, as sentences

    @property
    def agreement(self) -> float | None:
        """Cosine of the angle between both parts; None when one is missing or zero."""
        if self.model is None or self.free is None:
            return None
        norms = float(np.linalg.norm(self.model) * np.linalg.norm(self.free))
        return float(self.model @ self.free) / norms if norms > 0 else None


class Estimator(Protocol):
    """Estimates the gradient of the closed-loop objective at a flight that was flown."""

    def estimate(
        self, nominal: Evaluation, k: int, rng: np.random.Generator
    ) -> Asking[GradientEstimate]:
        """Estimate dJ/dtheta at ``nominal.theta``.

        Args:
            nominal: The flight under the weights in question.
            k: Iteration, which the schedules depend on.
            rng: The iteration's own source of random directions.
        """
        ...


@dataclass(frozen=True, eq=False)
class Slopes:
    """Measured slopes of J along orthonormal directions: finite differences of flights."""

    directions: NDArray[np.float64]  #: (m, n), rows of unit length
    values: NDArray[np.float64]  #: (m,), an estimate of direction' dJ/dtheta each
    notes: tuple[str, ...]  #: what went wrong


@dataclass(frozen=True, eq=False)
class ModelBased:
    """The gradient through the model alone: the costate recursion over the nominal flight."""

    #: maps a flight and what flew it to dJ/dtheta, (n,); raises MissingDerivativeError
    gradient_of: Callable[[Flight, Parameters], NDArray[np.float64]]

    def estimate(
        self,
        nominal: Evaluation,
        k: int,  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
    ) -> Asking[GradientEstimate]:
        """Differentiate the nominal flight; asks for no flight of its own."""
        yield from ()  # a generator, as the others are
        gradient, notes = self.part(nominal)
        return GradientEstimate(_or_zero(gradient, nominal), gradient, None, 1.0, notes)

    def part(self, nominal: Evaluation) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
        """Return the gradient, or None and the reason why there is none."""
        try:
            gradient = self.gradient_of(nominal.flight, nominal.request.parameters)
        except MissingDerivativeError as error:
            return None, (str(error),)
        if not np.all(np.isfinite(gradient)):
            return None, ('the model-based gradient is not finite: the closed loop is unstable',)
        return gradient, ()


@dataclass(frozen=True)
class ZerothOrder:
    """The gradient of the smoothed objective from cost differences of perturbed flights.

    With v uniform on the unit sphere and n weights (randomised smoothing),

        one-sided   n / delta (J(theta + delta v) - J(theta)) v
        two-sided   n / (2 delta) (J(theta + delta v) - J(theta - delta v)) v

    has the smoothed objective's gradient as its mean, which lies in the Goldstein
    delta-subdifferential of J. Several orthonormal directions are each
    uniform on the sphere, so the average over them has the same mean and less variance than as many
    independent ones; m = n directions give the full finite-difference gradient.

    A perturbed flight that is cut short or runs away has no cost: it is flown again with half the
    perturbation, at most ``retries`` times, and then left out.

    Attributes:
        delta, directions (m), two_sided: As they say themselves.
        retries: How often an unsafe perturbation is halved before it is given up.
    """

    delta: float = parameter(1e-4, 'length of the perturbation of theta', low=1e-12)
    directions: int = parameter(
        1, 'orthogonal directions of the zeroth-order estimate per iteration', low=1
    )
    two_sided: bool = parameter(False, 'perturb each direction both ways')
    retries: int = 3

    def __post_init__(self) -> None:
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f'the perturbation delta must be positive, got {self.delta}')
        if self.directions < 1:
            raise ValueError(f'at least one direction is needed, got {self.directions}')

    def estimate(
        self,
        nominal: Evaluation,
        k: int,  # noqa: ARG002
        rng: np.random.Generator,
    ) -> Asking[GradientEstimate]:
        """Fly the perturbed weights and average the slopes along their directions."""
        slopes = yield from self.slopes(nominal, rng)
        free = self.average(slopes)
        return GradientEstimate(_or_zero(free, nominal), None, free, 0.0, slopes.notes)

    @staticmethod
    def average(slopes: Slopes) -> NDArray[np.float64] | None:
        """Return n / m sum_i slope_i v_i, (n,); None without any slope."""
        m, n = slopes.directions.shape
        return n / m * (slopes.values @ slopes.directions) if m else None

    def slopes(self, nominal: Evaluation, rng: np.random.Generator) -> Asking[Slopes]:
        """Measure the slope of J along m random orthonormal directions."""
        policy, delta = nominal.request.parameters, self.delta
        directions = orthonormal_directions(self.directions, policy.space.size, rng)
        slopes, notes = np.full(len(directions), np.nan), []
        missing = np.arange(len(directions))
        for _ in range(1 + self.retries):
            signs = (1.0, -1.0) if self.two_sided else (1.0,)
            moves = [sign * delta * directions[i] for i in missing for sign in signs]
            flown = yield [
                FlightRequest(policy.with_theta(policy.theta + move), PERTURBED) for move in moves
            ]
            ends = np.array([e.outcome.J for e in flown]).reshape(len(missing), len(signs))
            others = ends[:, 1] if self.two_sided else nominal.outcome.J
            with np.errstate(invalid='ignore'):  # inf - inf: both sides ran away
                slopes[missing] = (ends[:, 0] - others) / (len(signs) * delta)
            missing = np.flatnonzero(~np.isfinite(slopes))
            if not missing.size:
                break
            ended = {e.flight.ended for e in flown if e.flight.ended}
            notes.append(
                f'{missing.size} perturbed flight(s) of length {delta:g} had no cost'
                + (f' ({"; ".join(sorted(ended))})' if ended else '')
            )
            delta /= 2
        measured = np.isfinite(slopes)
        return Slopes(directions[measured], slopes[measured], tuple(notes))


@dataclass(frozen=True)
class Hybrid:
    """The paper's estimator: ``eta_k g_model + (1 - eta_k) g_free``.

    A part whose weight is zero is not computed and flies nothing; a part that is missing (a failed
    solve, an unsafe perturbation) is left out of the sum, never replaced.
    """

    model: ModelBased  #: the model-based part
    free: ZerothOrder  #: the zeroth-order part
    trust: Trust  #: eta_k

    def estimate(
        self, nominal: Evaluation, k: int, rng: np.random.Generator
    ) -> Asking[GradientEstimate]:
        """Combine both parts with the trust of iteration k."""
        eta = self.trust(k)
        g_model: NDArray[np.float64] | None = None
        g_free: NDArray[np.float64] | None = None
        notes: tuple[str, ...] = ()
        if eta > 0:
            g_model, notes = self.model.part(nominal)
        if eta < 1:
            slopes = yield from self.free.slopes(nominal, rng)
            g_free, notes = self.free.average(slopes), notes + slopes.notes
        combined = eta * _or_zero(g_model, nominal) + (1 - eta) * _or_zero(g_free, nominal)
        return GradientEstimate(combined, g_model, g_free, eta, notes)


@dataclass(frozen=True)
class ControlVariate:
    """The model's gradient, corrected by what the flights measure beyond it.

        g_model + (1 - eta_k) n / m sum_i (slope_i - g_model' v_i) v_i

    The mean of n v v' is the identity, so the mean is ``eta_k g_model + (1 - eta_k) g_free``, the
    hybrid's, and the paper's convergence conditions are the same. The variance is that of the
    *error* of the model's gradient instead of that of the whole gradient.
    """

    model: ModelBased  #: the model-based part
    free: ZerothOrder  #: supplies the measured slopes
    trust: Trust  #: eta_k

    def estimate(
        self, nominal: Evaluation, k: int, rng: np.random.Generator
    ) -> Asking[GradientEstimate]:
        """Correct the model's gradient along the measured directions."""
        eta = self.trust(k)
        g_model, notes = self.model.part(nominal)
        base = _or_zero(g_model, nominal)
        if eta == 1:
            return GradientEstimate(base, g_model, None, eta, notes)
        slopes = yield from self.free.slopes(nominal, rng)
        g_free = self.free.average(slopes)
        surprise = Slopes(slopes.directions, slopes.values - slopes.directions @ base, slopes.notes)
        combined = base + (1 - eta) * _or_zero(self.free.average(surprise), nominal)
        return GradientEstimate(combined, g_model, g_free, eta, notes + slopes.notes)


def orthonormal_directions(m: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw m orthonormal directions in n dimensions, each uniform on the unit sphere, (m, n).

    Raises:
        ValueError: When more directions are asked for than there are dimensions.
    """
    if m > n:
        raise ValueError(f'there are no {m} orthogonal directions in {n} dimensions')
    # QR of a Gaussian matrix is uniform over the orthonormal frames up to the signs, which the
    # diagonal of R carries (for m = 1: the normalised Gaussian vector itself).
    frame, triangle = np.linalg.qr(rng.standard_normal((n, m)))
    return np.ascontiguousarray((frame * np.sign(np.diag(triangle))).T)


def _or_zero(gradient: NDArray[np.float64] | None, nominal: Evaluation) -> NDArray[np.float64]:
    return np.zeros_like(nominal.theta) if gradient is None else gradient
