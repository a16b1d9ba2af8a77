"""A surrogate of the plant, refitted flight by flight: the MPC's linear model plus what it misses.

The one-step error of the linear model, as it was flown, is regressed on features of the step,

    x+ - (A x + B u + c) = W' phi(z, past) + e,
    z = (x / x_scale, u / u_scale),     phi = (1, z, z_i z_j beyond the position, u_{t-1}, u_{t-2})

Thrust is quadratic in the rotor speeds and tilts with the attitude, so the quadratic terms carry
most of what linear models miss; the past inputs carry motor lag and delay. The position does not
act on the vehicle, but it may well act in a model from noisy data. The regression works on sums
over all flights so far, so that memory and time per flight do not grow. It is done for each state
in several ways,

* ridge regression with several weights, with and without the position,
* ridge regression with a weight of its own for each feature, the one that makes the data most
  likely (automatic relevance determination): few features matter to a state, the others go,

and for each state that one is used that predicts best: every new flight is predicted in all ways
before it is learned from.

Where states are measured with noise, least squares are wrong however many flights there are: noise
is in the features, and by feedback in the inputs as well, so that what predicts the next
*measurement* best is no model of the vehicle. Then the features of the flight as it should have
been, without noise, serve as instrumental variables (two-stage least squares): with Z those
features, Phi the measured ones and r the one-step errors,

    gram = Phi' P Phi,    moment = Phi' P r,    P = Z (Z'Z)^-1 Z'

take the place of Phi' Phi and Phi' r (M. Gilson and P. Van den Hof, "Instrumental variable methods
for closed-loop system identification", Automatica 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX

if TYPE_CHECKING:
    from numpy.typing import NDArray

POSITION_SCALE = 3.0  # m
LAGS = 2  # past inputs among the features
INPUT_SCALE = 10.0  # rad/s, about the usual distance between hover and limit
# Ridge weights per sample, for features of order 1.
RIDGE_WEIGHTS = 10.0 ** np.arange(-8.0, 2.0)
FIRST_CHOICE = 3  # index of the way before any flight could be predicted
RELEVANCE = RIDGE_WEIGHTS.size  # index of the way with a weight for each feature
WITH_POSITION = RELEVANCE + 1  # from here on the ways that know of the position
N_WAYS = WITH_POSITION + RIDGE_WEIGHTS.size
# How many times smaller the squared error of those must be to be believed: what happens to go with
# the position on one flight need not on the next.
RELUCTANCE = 1.5
# Bounds of a feature's weight, in units of 1 / (variance of the error that is explained).
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e12
# Share of that variance which is never explained, and what is next to nothing of it.
LEAST_NOISE, TINY = 1e-10, 1e-30
# How much a prediction counts that is one flight older.
FORGETTING = 0.7
# Steps whose features are larger have left the region that a quadratic can describe.
LARGEST_STATE_FEATURE = 3.0
LARGEST_INPUT_FEATURE = 6.0

# Instruments smaller than this, in units of the features' scale, say nothing.
LEAST_INSTRUMENT = 1e-3

_BENT = 3  # features from here on have products
_N_BENT = NX + NU - _BENT
_ROWS, _COLUMNS = np.triu_indices(_N_BENT)
_LINEAR = slice(1, 1 + NX + NU)
_POSITION = slice(1, 1 + _BENT)
_QUADRATIC = slice(_LINEAR.stop, _LINEAR.stop + _ROWS.size)
_PAST = slice(_QUADRATIC.stop, _QUADRATIC.stop + LAGS * NU)
N_FEATURES = _PAST.stop
_WITHOUT_POSITION = np.delete(np.arange(N_FEATURES), _POSITION)


@dataclass(frozen=True, eq=False)
class Prediction:
    """How well a flight was predicted before it was learned from, state by state."""

    error: NDArray[np.float64]  #: mean square of the surrogate's one-step error, (12,)
    linear_error: NDArray[np.float64]  #: the same for the linear model that it corrects, (12,)

    @property
    def explained(self) -> float:
        """Share of the linear model's error that the surrogate explains, median over states."""
        share = 1.0 - self.error / np.maximum(self.linear_error, 1e-300)
        return float(np.median(share))


class Surrogate:
    """The linear model plus a regression of its one-step error.

    Args:
        model: What is corrected; it stays the same while the surrogate learns.
        state_scale: Size of the states 3..11 that counts as 1, (9,): their bounds.

    Attributes:
        flights: Number of flights learned from.
        choice: Index of the way that each state is predicted in, (12,).
    """

    def __init__(self, model: LinearModel, state_scale: NDArray[np.float64]) -> None:
        self.model = model
        self._scale = np.concatenate(
            (np.full(3, POSITION_SCALE), state_scale, np.full(NU, INPUT_SCALE))
        )
        self.flights = 0
        self._samples = 0
        self._gram = np.zeros((N_FEATURES, N_FEATURES))
        self._moment = np.zeros((N_FEATURES, NX))
        self._square = np.zeros(NX)
        # Z'Z, Z'Phi and Z'r, where there are instruments.
        self._instruments = np.zeros((N_FEATURES, N_FEATURES))
        self._cross = np.zeros((N_FEATURES, N_FEATURES))
        self._instrumented_moment = np.zeros((N_FEATURES, NX))
        self._error = np.zeros((N_WAYS, NX))
        self._weights = np.zeros((NX, N_FEATURES))  # of the features; zeros: not yet known
        self._unexplained = np.zeros(NX)  # variance
        self._candidates = np.zeros((N_WAYS, N_FEATURES, NX))
        self._choose()

    # -- learning ------------------------------------------------------------------------------

    def add(
        self,
        states: NDArray[np.float64],
        inputs: NDArray[np.float64],
        expected: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> Prediction | None:
        """Predict a flight, then learn from it.

        Args:
            states: Deviations from the goal, (T+1, 12).
            inputs: Deviations from hover [rad/s], (T, 4).
            expected: The same two as they should have been without noise, where there is noise:
                correlated with the flight, but not with its noise.

        Returns:
            How well it was predicted; None for the first flight, and when no step is usable.
        """
        with np.errstate(all='ignore'):  # of a flight that ran away, no step may be finite
            features, target = self._features(states[:-1], inputs), self._target(states, inputs)
        usable = self._usable(features) & np.isfinite(target).all(axis=1)
        instruments = features
        if expected is not None:
            instruments = self._features(expected[0][:-1], expected[1])
            usable &= self._usable(instruments)
        features, target, instruments = features[usable], target[usable], instruments[usable]
        if not usable.any():
            return None
        prediction = None
        if self.flights:
            misses = target - instruments @ self._candidates
            error = np.mean(misses**2, axis=1)
            chosen = error[self.choice, np.arange(NX)]
            prediction = Prediction(chosen, np.mean(target**2, axis=0))
            self._error = FORGETTING * self._error + error
        if expected is None and not self.instrumented:
            self._gram += features.T @ features
            self._moment += features.T @ target
        else:
            self._instruments += instruments.T @ instruments
            self._cross += instruments.T @ features
            self._instrumented_moment += instruments.T @ target
        self._square += np.sum(target**2, axis=0)
        self._samples += len(features)
        self.flights += 1
        if self.instrumented:
            self._project()
        self._fit_ridges()
        self._fit_relevance()
        self._choose()
        return prediction

    @property
    def instrumented(self) -> bool:
        """Whether it has learned by instruments."""
        return bool(self._instruments.any())

    def _project(self) -> None:
        """Set the sums of the regression to those of the second stage of least squares."""
        instruments = self._instruments.copy()
        instruments.flat[:: N_FEATURES + 1] += LEAST_INSTRUMENT**2 * self._samples
        factor = scipy.linalg.cho_factor(instruments, overwrite_a=True, check_finite=False)
        first_stage = scipy.linalg.cho_solve(factor, self._cross, check_finite=False)
        self._gram = self._cross.T @ first_stage
        self._moment = first_stage.T @ self._instrumented_moment

    def _fit_ridges(self) -> None:
        for first, known in ((0, _WITHOUT_POSITION), (WITH_POSITION, np.arange(N_FEATURES))):
            gram, moment = self._gram[np.ix_(known, known)], self._moment[known]
            for i, weight in enumerate(RIDGE_WEIGHTS, start=first):
                normal = gram.copy()
                normal.flat[:: len(known) + 1] += weight * self._samples
                # LAPACK itself: scipy's wrappers take as long as the factorisation.
                _, coefficients, failed = scipy.linalg.lapack.dposv(normal.T, moment, overwrite_a=1)
                if failed:
                    raise np.linalg.LinAlgError('the features of the flights are not finite')
                self._candidates[i][known] = coefficients

    def _fit_relevance(self) -> None:
        """Make one sweep of MacKay's fixed-point iteration over the weights of the features.

        With noise variance s, weights alpha and Gram matrix G, the coefficients have the mean
        m = S b / s and the covariance S = (G / s + diag(alpha))^-1, and the evidence grows by

            gamma_j = 1 - alpha_j S_jj,   alpha_j <- gamma_j / m_j^2,
            s <- |error|^2 / (samples - sum gamma)

        gamma_j, between 0 and 1, says how much of coefficient j the data have determined.
        """
        variance = self._square / self._samples + TINY
        if not self._weights.any():
            self._weights[:] = 10.0 / variance[:, None]
            self._weights[:, _POSITION] = LARGEST_WEIGHT / variance[:, None]
            self._unexplained = 0.1 * variance
        for i in range(NX):
            weights, noise, b = self._weights[i], self._unexplained[i], self._moment[:, i]
            # In units of the prior's standard deviation, in which S is well conditioned.
            unit = 1.0 / np.sqrt(weights)
            precision = unit[:, None] * self._gram
            precision *= unit / noise
            precision.flat[:: N_FEATURES + 1] += 1.0
            factor, failed = scipy.linalg.lapack.dpotrf(precision.T, overwrite_a=1)
            if failed:
                continue
            mean = unit * scipy.linalg.lapack.dpotrs(factor, unit * b)[0] / noise
            inverse, _ = scipy.linalg.lapack.dpotri(factor, overwrite_c=1)  # its upper triangle
            determined = np.clip(1.0 - np.diag(inverse), 1e-12, 1.0)
            self._weights[i] = np.clip(
                determined / np.maximum(mean * mean, TINY / LARGEST_WEIGHT),
                LEAST_WEIGHT / variance[i],
                LARGEST_WEIGHT / variance[i],
            )
            error = self._square[i] - 2 * mean @ b + mean @ self._gram @ mean
            freedom = max(self._samples - determined.sum(), 1.0)
            self._unexplained[i] = max(error / freedom, LEAST_NOISE * variance[i])
            self._candidates[RELEVANCE, :, i] = mean

    def _choose(self) -> None:
        """Choose for each state the way that predicts best."""
        self.choice = np.full(NX, FIRST_CHOICE)
        if self.instrumented:
            # Noise makes all predictions alike; the evidence is in all flights, not in the last.
            self.choice[:] = RELEVANCE
        elif self._error.any():
            reluctance = np.ones((N_WAYS, 1))
            reluctance[WITH_POSITION:] = RELUCTANCE
            self.choice = np.argmin(reluctance * self._error, axis=0)
        W = self._candidates[self.choice, :, np.arange(NX)]  # (12, features)
        self._offset = W[:, 0].copy()
        self._slope = W[:, _LINEAR] / self._scale
        self._past_slope = W[:, _PAST] / self._scale[-1]
        curvature = np.zeros((NX, _N_BENT, _N_BENT))
        curvature[:, _ROWS, _COLUMNS] = W[:, _QUADRATIC]
        curvature /= np.outer(self._scale[_BENT:], self._scale[_BENT:])
        self._curvature = curvature + curvature.transpose(0, 2, 1)

    # -- predicting ----------------------------------------------------------------------------

    def residuals(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the one-step errors x+ - f(x, u) of a flight in deviations, (T, 12)."""
        z = np.concatenate((states[:-1], inputs), axis=1)
        correction = self._offset + z @ self._slope.T + _past(inputs) @ self._past_slope.T
        z = z[:, _BENT:]
        bent = (z @ self._curvature.reshape(-1, _N_BENT).T).reshape(len(z), NX, _N_BENT)
        correction += 0.5 * (bent @ z[:, :, None])[:, :, 0]
        return self._target(states, inputs) - correction

    def predictor(self) -> Predictor:
        """Return the surrogate's one-step prediction, made for many quick calls."""
        return Predictor(
            self.model, self._offset, self._slope, 0.5 * self._curvature, self._past_slope
        )

    def jacobians_along(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return A (T, 12, 12) and B (T, 12, 4) at states (T, 12) and rotor speeds (T, 4).

        What past inputs do is left out: see `augmented_jacobians_along`.
        """
        A, B, _ = self.augmented_jacobians_along(states, inputs)
        return A, B

    def augmented_jacobians_along(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the Jacobians of x+ with respect to state, input and past inputs.

        Args:
            states: Deviations from the goal, (T, 12).
            inputs: Rotor speeds (T, 4) [rad/s].

        Returns:
            A (T, 12, 12), B (T, 12, 4) and, for the inputs of one, two, ... steps before,
            L (T, lags, 12, 4).
        """
        steps = len(inputs)
        z = np.concatenate((states[:, _BENT:], inputs - self.model.hover_input), axis=1)
        slope = np.repeat(self._slope[None], steps, axis=0)
        slope[:, :, _BENT:] += (z @ self._curvature.reshape(-1, _N_BENT).T).reshape(
            steps, NX, _N_BENT
        )
        A, B = self.model.A + slope[:, :, :NX], self.model.B + slope[:, :, NX:]
        lagged = self._past_slope.reshape(NX, LAGS, NU).transpose(1, 0, 2)
        return A, B, np.broadcast_to(lagged, (steps, LAGS, NX, NU))

    def hover_model(self) -> LinearModel:
        """Return the linearisation at hover; past inputs act as if they were the present one."""
        A, B = self.model.A + self._slope[:, :NX], self.model.B + self._slope[:, NX:]
        B = B + self._past_slope.reshape(NX, LAGS, NU).sum(axis=1)
        c = self.model.c + self._offset
        return LinearModel(A, B, c, self.model.time_step, self.model.hover_input)

    # -- keeping -------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return all that it has learned, to be kept."""
        return {
            'gram': self._gram[np.triu_indices(N_FEATURES)],
            'moment': self._moment,
            'instruments': self._instruments[np.triu_indices(N_FEATURES)],
            'cross': self._cross,
            'instrumented_moment': self._instrumented_moment,
            'square': self._square,
            'error': self._error,
            'weights': self._weights,
            'unexplained': self._unexplained,
            'coefficients': self._candidates,
            'counts': np.array([self.flights, self._samples], dtype=float),
        }

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over what `arrays` returned."""
        self._gram = _symmetric(arrays['gram'])
        self._instruments = _symmetric(arrays['instruments'])
        self._cross = np.array(arrays['cross'])
        self._instrumented_moment = np.array(arrays['instrumented_moment'])
        self._moment, self._square = np.array(arrays['moment']), np.array(arrays['square'])
        self._error, self._weights = np.array(arrays['error']), np.array(arrays['weights'])
        self._unexplained = np.array(arrays['unexplained'])
        self._candidates = np.array(arrays['coefficients'])
        self.flights, self._samples = (int(count) for count in arrays['counts'])
        self._choose()

    # -- features ------------------------------------------------------------------------------

    def _target(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return states[1:] - self.model.predict(states[:-1], inputs)

    def _features(
        self, states: NDArray[np.float64], inputs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        z = np.concatenate((states, inputs), axis=1) / self._scale
        ones = np.ones((len(z), 1))
        quadratic = z[:, _BENT + _ROWS] * z[:, _BENT + _COLUMNS]
        return np.concatenate((ones, z, quadratic, _past(inputs) / self._scale[-1]), axis=1)

    @staticmethod
    def _usable(features: NDArray[np.float64]) -> NDArray[np.bool_]:
        limits = np.full(N_FEATURES, np.inf)
        first_input = _LINEAR.stop - NU
        limits[_LINEAR.start + _BENT : first_input] = LARGEST_STATE_FEATURE
        limits[first_input : _LINEAR.stop] = LARGEST_INPUT_FEATURE
        limits[_PAST] = LARGEST_INPUT_FEATURE
        with np.errstate(invalid='ignore'):
            usable: NDArray[np.bool_] = np.all(np.abs(features) <= limits, axis=1)
        return usable


class Predictor:
    """x+ = f(x, u, past) of a surrogate at one instant of its learning, in deviations."""

    def __init__(
        self,
        model: LinearModel,
        offset: NDArray[np.float64],
        slope: NDArray[np.float64],
        curvature: NDArray[np.float64],
        past_slope: NDArray[np.float64],
    ) -> None:
        # One matrix for all that is linear in (x, u, past, 1).
        A, B = model.A + slope[:, :NX], model.B + slope[:, NX:]
        self._linear = np.concatenate((A, B, past_slope, (model.c + offset)[:, None]), axis=1)
        self._curvature = curvature.reshape(NX * _N_BENT, _N_BENT)
        self._row = np.zeros(self._linear.shape[1])
        self._row[-1] = 1.0

    def begin(self) -> None:
        """Begin a flight: the inputs before it were hover."""
        self._row[NX + NU : -1] = 0.0

    def step(self, x: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the next state (12,), and remember the input."""
        row = self._row
        row[:NX], row[NX : NX + NU] = x, u
        z = row[_BENT : NX + NU]
        x_next = self._linear @ row + (self._curvature @ z).reshape(NX, _N_BENT) @ z
        row[NX + 2 * NU : -1] = row[NX + NU : -1 - NU].copy()
        row[NX + NU : NX + 2 * NU] = u
        return x_next


def _symmetric(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix over all features that has this upper triangle."""
    matrix = np.zeros((N_FEATURES, N_FEATURES))
    matrix[np.triu_indices(N_FEATURES)] = upper
    return np.triu(matrix) + np.triu(matrix, 1).T


def _past(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last inputs at every step, (T, lags * 4); before the flight they were hover."""
    past = np.zeros((len(inputs), LAGS * NU))
    for lag in range(1, LAGS + 1):
        past[lag:, (lag - 1) * NU : lag * NU] = inputs[:-lag]
    return past
