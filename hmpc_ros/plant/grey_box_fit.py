r"""From flights to the numbers of a grey box, by regularised least squares on what was measured.

*Rates* are compared as a whole: the axes' responses to all commands since the beginning. A stable
response forgets where it began, so there is no start to fit and nothing to differentiate.

*Velocities* drift under any error of the acceleration f. Both sides of v' = f pass the same filter
that forgets,

    y' = v' - y / T,      y^' = f - y^ / T,

so that y = v less its own low-pass: noise of v stays as white as it was, no difference is taken. f
is linear in k_T, D and d, along the measured attitude, whose noise averages out.

Residuals of a model that is not the vehicle are not white, and count for less than they are many.
With H the Gauss-Newton Hessian, g_t the gradients and S their covariance summed over lags of up to
L = 2 s (Newey and West, Econometrica 55, 1987), the data's information is H / kappa,
kappa = tr(H^+ S) / rank (the magnitude adjustment of composite likelihoods: Ribatet, Cooley,
Davison, 2012), and the estimate's covariance is A^-1 (S / kappa^2 + P) A^-1, A = H / kappa + P,
P the prior's precision. T steps are as good as n = 3 T / (2 L) independent ones (Andrews,
Econometrica 59, 1991), of which p parameters have taken up p: S grows by p / n kappa H for them.
What the data do not tell, the prior does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import lfilter, savgol_filter

from hmpc_ros.plant.grey_box import DOUBT, HIGH, LOW, NAMES, SLICES, GreyBox, rate_response
from hmpc_ros.plant.rigid_body import (
    GRAVITY,
    NU,
    NX,
    QUATERNION,
    RATES,
    VELOCITY,
    rotation_matrix,
)

FORGET = 0.5  # s, T above
LAG = 2.0  # s, beyond which residuals are taken for independent
SMOOTHED = 0.3  # s, of what is unexplained
SHORTEST = 2.0  # s, of a flight from which anything can be told
# Data tell a parameter whose standard error they have brought below this share of the prior's.
TOLD = 0.5
# Residuals below these are rounding: m/s, rad/s.
_FLOOR = np.array([1e-4, 1e-3])
_ROUNDS = 3  # of weighting
_EVALUATIONS = 30  # of the residuals' Jacobian in each


@dataclass(frozen=True, eq=False)
class Recording:
    """A flight as sensors and commands tell it.

    Raises:
        ValueError: shapes do not fit, times are not evenly spaced, values are not finite, or it is
            shorter than 2 s.
    """

    times: np.ndarray  # (T+1,) s
    states: np.ndarray  # (T+1, 13), as in `rigid_body`
    commands: np.ndarray  # (T, 4), each held over its step

    def __post_init__(self) -> None:
        """Check what was recorded."""
        steps = len(self.commands)
        if self.states.shape != (steps + 1, NX) or self.commands.shape != (steps, NU):
            raise ValueError(
                f'a flight needs states (T+1, {NX}) and commands (T, {NU}), got '
                f'{self.states.shape} and {self.commands.shape}'
            )
        if self.times.shape != (steps + 1,):
            raise ValueError(f'times must be {steps + 1}, one per state, got {self.times.shape}')
        if not all(np.isfinite(a).all() for a in (self.times, self.states, self.commands)):
            raise ValueError('the flight has values that are not finite')
        if steps < 2 or self.times[-1] - self.times[0] < SHORTEST:
            raise ValueError(f'the flight is shorter than {SHORTEST:g} s')
        if np.ptp(np.diff(self.times)) > 0.01 * self.time_step:
            raise ValueError('the times of the flight are not evenly spaced: resample it')

    @property
    def time_step(self) -> float:
        """Between two states [s]."""
        return float(self.times[-1] - self.times[0]) / (len(self.times) - 1)


@dataclass(frozen=True, eq=False)
class Identified:
    """What flights tell of a vehicle.

    Attributes:
        box: the estimate.
        covariance: (15, 15) of its vector; a bound that is touched does not show.
        told: (15,) whether the data tell it; what they do not is as assumed.
        residual_std: of velocity [m/s] (filtered) and rates [rad/s].
    """

    box: GreyBox
    covariance: np.ndarray
    told: np.ndarray
    residual_std: tuple[float, float]

    @property
    def standard_errors(self) -> np.ndarray:
        """Of the vector's entries (15,)."""
        return np.sqrt(np.diag(self.covariance))

    def as_dict(self) -> dict[str, dict[str, float | bool]]:
        """Return every entry's estimate, standard error and whether the data tell it, by name."""
        columns = zip(NAMES, self.box.vector, self.standard_errors, self.told, strict=True)
        return {
            name: {'estimate': float(value), 'standard_error': float(error), 'told': bool(told)}
            for name, value, error, told in columns
        }

    def draw(self, rng: np.random.Generator) -> GreyBox:
        """Return a vehicle that the data could have come from as well."""
        # By Cholesky's factor, which is unique: eigenvectors may turn by what the last digits say,
        # and the same flights over ROS and offline would be rehearsed on different vehicles.
        spread = np.linalg.cholesky(self.covariance)
        vector = self.box.vector + spread @ rng.standard_normal(len(spread))
        return GreyBox.from_vector(np.clip(vector, LOW, HIGH))


def fit(flights: Sequence[Recording], prior: GreyBox | None = None) -> Identified:
    """Identify a vehicle from one or several flights.

    Args:
        flights: of the same vehicle.
        prior: what is assumed of it, with the doubts of `grey_box.PARAMETERS`.

    Raises:
        ValueError: there is no flight.
    """
    if not flights:
        raise ValueError('there is no flight to identify from')
    assumed = (prior or GreyBox()).vector
    prepared = [_Prepared(flight) for flight in flights]
    ends = np.cumsum([len(flight.times) for flight in flights])[:-1]
    steps = max(1, round(LAG / flights[0].time_step))
    weights, kappa = np.repeat(1 / _FLOOR, 3), 1.0
    vector = np.clip(assumed, LOW + 1e-6, HIGH - 1e-6)
    told = np.ones(len(vector), dtype=bool)
    covariance = np.diag(DOUBT**2.0)
    for turn in range(_ROUNDS + 1):
        if turn == _ROUNDS:
            # What is not told stays as assumed, and leads nothing else astray.
            told = np.sqrt(np.diag(covariance)) < TOLD * DOUBT
            if told.all():
                break
            vector = np.where(told, vector, assumed)

        def weighted(
            part: np.ndarray,
            vector: np.ndarray = vector,
            told: np.ndarray = told,
            weights: np.ndarray = weights,
            kappa: float = kappa,
        ) -> np.ndarray:
            whole = vector.copy()
            whole[told] = part
            data = np.concatenate([flight.residuals(whole) for flight in prepared]) * weights
            pull = np.sqrt(kappa) * (whole - assumed) / DOUBT
            return np.concatenate((data.ravel(), pull[told]))

        solved = least_squares(
            weighted,
            vector[told],
            bounds=(LOW[told], HIGH[told]),
            x_scale=DOUBT[told],
            max_nfev=_EVALUATIONS,
        )
        vector = vector.copy()
        vector[told] = solved.x
        n = int(told.sum())
        residual = solved.fun[:-n].reshape(-1, 6) / weights
        std = np.sqrt(np.mean(residual.reshape(-1, 2, 3) ** 2, axis=(0, 2)))
        if turn == _ROUNDS:
            break
        slopes = solved.jac[:-n].reshape(*residual.shape, n) / weights[:, None]
        weights = np.repeat(1 / np.maximum(std, _FLOOR), 3)
        slopes *= weights[:, None]
        hessian = np.einsum('tip,tiq->pq', slopes, slopes)
        gradients = np.einsum('tip,ti->tp', slopes, residual * weights)
        kappa, covariance = _doubts(np.split(gradients, ends), steps, hessian)
    return Identified(
        GreyBox.from_vector(vector), covariance, told, (float(std[0]), float(std[1]))
    )


def unexplained(flight: Recording, box: GreyBox) -> np.ndarray:
    """Return the acceleration (T, 3) [m/s^2] along a flight that a grey box does not explain.

    Smoothed over 0.3 s, so that noise of the velocity is not taken for forces.
    """
    y = _Prepared(flight).residuals(box.vector)[:, :3]
    window = min(2 * round(SMOOTHED / flight.time_step / 2) + 1, len(y) - 1 + len(y) % 2)
    smooth = {'window_length': window, 'polyorder': 3, 'axis': 0}
    slope = savgol_filter(y, deriv=1, delta=flight.time_step, **smooth)
    return (slope + savgol_filter(y, **smooth) / FORGET)[:-1]


def _doubts(
    gradients: Sequence[np.ndarray], steps: int, hessian: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return kappa and the covariance of the estimate; see the module's description.

    Args:
        gradients: (T, p) of each flight.
        steps: of the largest lag.
        hessian: (p, p), all flights'.
    """
    H = hessian * np.outer(DOUBT, DOUBT)  # in units of the prior
    S = sum(_long_run(each * DOUBT, steps) for each in gradients)
    values, axes = np.linalg.eigh(H)
    seen = values > 1e-8 * values[-1]
    shares = np.einsum('ij,ik,kj->j', axes, S, axes)[seen] / values[seen]
    kappa = max(1.0, float(shares.mean()))
    p, independent = len(H), 1.5 * sum(map(len, gradients)) / steps
    S = S + p / independent * kappa * H
    spread = np.linalg.inv(H / kappa + np.eye(p))
    covariance = spread @ (S / kappa**2 + np.eye(p)) @ spread
    return kappa, covariance * np.outer(DOUBT, DOUBT)


def _long_run(gradients: np.ndarray, steps: int) -> np.ndarray:
    """Return the covariance (p, p) of the sum of gradients (T, p), with Bartlett's weights."""
    found = gradients.T @ gradients
    for lag in range(1, min(steps, len(gradients))):
        shifted = (1 - lag / steps) * gradients[lag:].T @ gradients[:-lag]
        found = found + shifted + shifted.T
    return found


class _Prepared:
    """A recording with all that does not depend on the parameters."""

    def __init__(self, flight: Recording) -> None:
        h = self.step = flight.time_step
        self.commands = flight.commands
        self.rates = flight.states[:, RATES]
        turn = rotation_matrix(flight.states[:, QUATERNION])
        self.axis = turn[:, :, 2]
        v = flight.states[:, VELOCITY]
        # R D R' v is linear in D: (T+1, 3 of the world, 3 of D).
        self.dragged = turn * np.einsum('tij,ti->tj', turn, v)[:, None, :]
        self.keep = np.exp(-h / FORGET)
        self.change = self._forgetting_difference(v)

    def _forgetting_difference(self, v: np.ndarray) -> np.ndarray:
        """Return y (T+1, 3) with y' = v' - y / T and y_0 = 0: for v linear in between, exactly."""
        part = (1 - self.keep) * FORGET / self.step
        steps = np.diff(v, axis=0, prepend=v[:1])
        return lfilter([part], [1, -self.keep], steps, axis=0)

    def _forgetting_integral(self, f: np.ndarray) -> np.ndarray:
        """Return y (T+1, 3) with y' = f - y / T and y_0 = 0, by the trapezoidal rule."""
        half = self.step / 2
        y = lfilter([half, half * self.keep], [1, -self.keep], f, axis=0)
        # The filter took what was before the first sample for zero, half a step of it for f_0.
        return y - half * f[0] * (self.keep ** np.arange(len(f)))[:, None]

    def residuals(self, vector: np.ndarray) -> np.ndarray:
        """Return what the model does not explain: (T+1, 6), filtered velocity and rates."""
        box = {name: vector[part] for name, part in SLICES.items()}
        late = float(box['delay'][0])
        a = self._late(self._thrust(float(box['thrust_lag'][0])), late)
        force = box['thrust_gain'] * a[:, None] * self.axis - self.dragged @ box['drag']
        force = force + box['disturbance'] - np.array([0, 0, GRAVITY])
        velocity = self.change - self._forgetting_integral(force)
        rates = np.column_stack(
            [self._rate(i, box['rate_lags'][i], box['rate_shapes'][i]) for i in range(3)]
        )
        return np.hstack([velocity, self.rates - self._late(rates, late)])

    def _thrust(self, lag: float) -> np.ndarray:
        """Return a (T+1,), from hover."""
        decay = np.exp(-self.step / lag)
        began = np.concatenate(([0.0], self.commands[:, 0] - GRAVITY))
        return GRAVITY + lfilter([1 - decay], [1, -decay], began)

    def _rate(self, axis: int, lag: float, shape: float) -> np.ndarray:
        """Return one axis' rates (T+1,), from where it began."""
        A, B = rate_response(lag, shape, self.step)
        first = self.rates[0, axis]
        top = [0.0, B[0], A[0, 1] * B[1] - A[1, 1] * B[0]]
        bottom = [1.0, -np.trace(A), np.linalg.det(A)]
        command = np.append(self.commands[:, 1 + axis], 0.0) - first
        return first + lfilter(top, bottom, command)

    def _late(self, response: np.ndarray, delay: float) -> np.ndarray:
        """Return a response (T+1, ...) by a delay [s] later: linear systems keep their shape."""
        whole, part = divmod(delay / self.step, 1.0)
        n = len(response)

        def back(steps: int) -> np.ndarray:
            return response[np.maximum(np.arange(n) - steps, 0)]

        return (1 - part) * back(int(whole)) + part * back(int(whole) + 1)
