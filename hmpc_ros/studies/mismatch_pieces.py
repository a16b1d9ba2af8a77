"""The pieces of the study of model mismatch: a run and how it went, and what is wrong at a level.

What a model's gradient is compared with is the true one: the same costate recursion with the
simulated vehicle's own Jacobians, motors and delay included (`Vehicle.jacobians_along`). Central
differences of flights check it at every level.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration.learner import header, offline_training, schedules
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.learning.estimators import orthonormal_directions
from hmpc_ros.learning.goldstein import goldstein
from hmpc_ros.learning.requests import CLOSING, NOMINAL, PERTURBED, FlightRequest
from hmpc_ros.learning.results import ResultsFolder, number, recorded
from hmpc_ros.learning.summary import best_record
from hmpc_ros.learning.training import TrainingRun
from hmpc_ros.plant.quadcopter import NX, POSITION
from hmpc_ros.policy.protocol import MissingDerivativeError
from hmpc_ros.studies.benchmark import curve
from hmpc_ros.studies.statistics import or_none

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.configuration.learner import OfflineTraining
    from hmpc_ros.learning.results import Record
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import Policy

    Vector = NDArray[np.float64]

STEP = 1e-4  # of central differences, in theta
RADIUS, SAMPLES = 1e-2, 8  # of the ball of the Goldstein measure; gradients from it
DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)  # at which the zeroth-order estimate's variance is measured
DRAWS = 16  # estimates for a variance
WINDOW = 100  # steps over which a closed loop has to contract: half a flight
SETTLED = 0.05  # share of the way within which the vehicle has arrived
# What counts as 1 in the norms of errors, beside the bounds of the states: a metre, and about the
# distance from hover to the rotors' limit.
POSITION_UNIT, INPUT_UNIT = 1.0, 10.0


# -- a run -----------------------------------------------------------------------------------------


def learn(configuration: Configuration, flights: int) -> dict[str, Any]:
    """Let a rule learn for so many flights, and tell how it went.

    The line has J of the best weights after each flight (null: nothing flew), why the run ended if
    it diverged, the last best weights' flight in numbers, and, of each iteration that follows a
    gradient, the model's gradient beside the true one. A model that is so wrong that no MPC can be
    made of it is told as a run that diverged before its first flight.
    """
    begun = time.monotonic()
    try:
        training = offline_training(configuration)
    except ValueError as error:
        nothing: dict[str, Any] = {'curve': [None] * flights, 'diverged': str(error)}
        return {**nothing, 'gradients': [], 'final': None, 'seconds': 0.0}
    probe = _Probe(configuration, training)
    learner = configuration['learner']
    with tempfile.TemporaryDirectory() as folder:
        about = header(configuration, training)
        with ResultsFolder(Path(folder) / 'run', about) as results:
            # An iteration flies at least once: the flights are used up before the iterations.
            run = TrainingRun(
                training.rule, training.objective, training.start, results,
                iterations=flights + 1, seed=learner['seed'],
            )  # fmt: skip
            while not run.stopped and _flown(results.records) < flights:
                request = run.next_request()
                assert request is not None
                flight = training.fly(request)
                probe.see(run.k, request, flight)
                run.report(request, flight)
            records = results.iterations
    known = curve(records, lambda record: number(record['J']), flights)
    return {
        'curve': [or_none(J) for J in known],
        'diverged': run.stopped,
        'gradients': probe.seen,
        'final': probe.final(records, flights),
        'seconds': round(time.monotonic() - begun, 2),
    }


def _flown(records: list[Record]) -> int:
    return records[-1]['flights'] if records else 0


class _Probe:
    """Looks at the flights of a run from outside, with the gradient that nobody has."""

    def __init__(self, configuration: Configuration, training: OfflineTraining) -> None:
        self.training = training
        mpc = training.rollout.mpc
        self.believed = FlightGradient(mpc, mpc.model, training.objective)
        self.true = FlightGradient(mpc, training.rollout.vehicle, training.objective)
        learner = configuration['learner']
        self._follows = learner['rule'] != 'trust_region'
        self._step, self._trust = schedules(learner)
        self._period = configuration['simulator']['time_step']
        self.seen: list[dict[str, Any]] = []

    def see(self, k: int, request: FlightRequest, flight: Flight) -> None:
        """Compare both gradients of an iteration's flight, where the rule follows one."""
        if self._follows and request.purpose == NOMINAL:
            pair = self.both(flight, request.parameters)
            if pair is not None:
                schedule = {'k': k, 'step': self._step(k), 'trust': self._trust(k)}
                self.seen.append({**schedule, **compared(*pair)})

    def both(self, flight: Flight, parameters: Parameters) -> tuple[Vector, Vector] | None:
        """Return the model's gradient and the true one; None where there is none."""
        if not flight.complete or not np.isfinite(flight.states).all():
            return None
        try:
            found = self.believed(flight, parameters), self.true(flight, parameters)
        except MissingDerivativeError:
            return None
        return found if np.isfinite(found).all() else None

    def fly(self, parameters: Parameters, solutions: bool = True) -> Flight:
        """Fly parameters once."""
        return self.training.fly(FlightRequest(parameters, CLOSING, solutions))

    def gradient_at(self, parameters: Parameters, theta: Vector) -> Vector | None:
        """Return the true gradient of J at weights near those of parameters."""
        there = parameters.with_theta(theta)
        pair = self.both(self.fly(there), there)
        return None if pair is None else pair[1]

    def goldstein(self, parameters: Parameters) -> float | None:
        """Return the Goldstein measure."""
        return goldstein(
            parameters.theta, lambda theta: self.gradient_at(parameters, theta), RADIUS, SAMPLES,
            np.random.default_rng(0),
        )  # fmt: skip

    def final(self, records: list[Record], flights: int) -> dict[str, Any] | None:
        """Return what the best weights of a run come to; None where nothing flew."""
        best = best_record([record for record in records if record['flights'] <= flights])
        if best is None or best['J'] is None:
            return None
        parameters = recorded(self.training.start, best)
        flight = self.fly(parameters, solutions=False)
        outcome = self.training.objective.cost(flight)
        return {
            'C': outcome.C, 'V': outcome.V, 'J': outcome.J, **transient(flight, self._period),
            'goldstein': self.goldstein(parameters),
        }  # fmt: skip


def compared(model: Vector, true: Vector) -> dict[str, float]:
    """Return the lengths of both gradients and of their difference, and the cosine."""
    lengths = float(np.linalg.norm(model)), float(np.linalg.norm(true))
    return {
        'model': lengths[0],
        'true': lengths[1],
        'bias': float(np.linalg.norm(model - true)),
        'cosine': float(model @ true / max(lengths[0] * lengths[1], 1e-300)),
    }


def transient(flight: Flight, period: float) -> dict[str, float | None]:
    """Return how a flight got to its goal.

    Args:
        flight: With at least one step.
        period: Of control [s].

    Returns:
        ``settling``: time after which it stays within 5 % of the way [s], None if never; ``iae``
        and ``ise``: integrals of the distance to the goal [m s] and of its square [m^2 s];
        ``overshoot``: how far it flew beyond the goal along the way, as a share of the way.
    """
    errors = flight.deviations[:, POSITION]
    distance = np.linalg.norm(errors, axis=1)
    outside = np.flatnonzero(distance > SETTLED * distance[0])
    arrived = outside[-1] + 1 if outside.size else 0
    beyond = -errors @ errors[0] / max(distance[0] ** 2, 1e-300)
    return {
        'settling': float(period * arrived) if arrived < len(distance) else None,
        'iae': float(period * distance[:-1].sum()),
        'ise': float(period * (distance[:-1] ** 2).sum()),
        'overshoot': float(max(0.0, beyond.max())),
    }


# -- a level ---------------------------------------------------------------------------------------


def measure(configuration: Configuration) -> dict[str, Any]:
    """Measure what is wrong at a level, on flights of the simulated vehicle with the start weights.

    The line says whether they fly at all, and if they do: one-step errors of the model along the
    flight and of its Jacobians (largest, in units of the states' bounds), how the closed loop
    contracts, the model's gradient beside the true one and beside central differences, the variance
    of the zeroth-order estimate, and the Goldstein measure.
    """
    begun = time.monotonic()
    try:
        training = offline_training(configuration)
    except ValueError as error:
        return {'J': None, 'flies': False, 'refused': str(error), 'seconds': 0.0}
    probe = _Probe(configuration, training)
    start = training.start
    flight = probe.fly(start)
    pair = probe.both(flight, start)
    numbers: dict[str, Any] = {'J': or_none(training.objective.cost(flight).J), 'flies': bool(pair)}
    if pair is not None:
        differences = central_differences(training)
        numbers |= {
            **model_errors(training, flight),
            'gradients': compared(*pair),
            'differences': compared(pair[0], differences),
            'check': compared(pair[1], differences)['bias'] / float(np.linalg.norm(differences)),
            'variance': variances(training, pair[1], configuration['learner']['seed']),
            'goldstein': probe.goldstein(start),
        }
    return {**numbers, 'seconds': round(time.monotonic() - begun, 2)}


def _J(training: OfflineTraining, theta: Vector) -> float:
    request = FlightRequest(training.start.with_theta(theta), PERTURBED)
    return training.objective.cost(training.fly(request)).J


def central_differences(training: OfflineTraining) -> Vector:
    """Return dJ/dtheta (n,) at the start from two flights per weight."""
    theta = training.start.theta
    moves = STEP * np.eye(theta.size)
    ends = [_J(training, theta + move) - _J(training, theta - move) for move in moves]
    return np.array(ends) / (2 * STEP)


def variances(training: OfflineTraining, gradient: Vector, seed: int) -> list[dict[str, float]]:
    """Return E|g_free - mean|^2 of the one-sided zeroth-order estimate for several delta.

    Each also over (n - 1) |g|^2, which it is where J is linear: of n slope v with v uniform on the
    sphere, E|n (v'g) v|^2 = n |g|^2.
    """
    theta, rng = training.start.theta, np.random.default_rng([seed, 1])
    n, J = theta.size, _J(training, theta)
    linear = (n - 1) * float(gradient @ gradient)
    found = []
    for delta in DELTAS:
        directions = np.array([orthonormal_directions(1, n, rng)[0] for _ in range(DRAWS)])
        slopes = np.array([_J(training, theta + delta * v) - J for v in directions]) / delta
        spread = float(np.sum(np.var(n * slopes[:, None] * directions, axis=0, ddof=1)))
        if np.isfinite(spread):
            found.append({'delta': delta, 'variance': spread, 'over_linear': spread / linear})
    return found


def model_errors(training: OfflineTraining, flight: Flight) -> dict[str, Any]:
    """Return the largest error of the model and of its Jacobians, and how the loops contract.

    All in units: a metre, the bounds of the other states, 10 rad/s of a rotor. The Jacobians are
    compared as far as the model has them, by the present state and the present input.
    """
    mpc, vehicle = training.rollout.mpc, training.rollout.vehicle
    model, x = mpc.model, flight.deviations
    unit = np.concatenate((np.full(3, POSITION_UNIT), mpc.limits.state_max))
    errors = (x[1:] - model.predict(x[:-1], flight.input_deviations)) / unit
    A, B = vehicle.jacobians_along(x[:-1], flight.inputs)
    error_A = (A[:, :NX, :NX] - model.A) * unit / unit[:, None]
    error_B = (B[:, :NX] - model.B) * INPUT_UNIT / unit[:, None]
    mpc.use(training.start)
    policy: Policy = mpc
    gain = policy.differentiate(flight.solutions).state_gain
    rest = A.shape[-1] - NX
    scale = np.concatenate((unit, np.full(rest, INPUT_UNIT)))
    wider = np.concatenate((gain, np.zeros((*gain.shape[:2], rest))), axis=2)
    believed = model.A + model.B @ gain
    return {
        'error': _largest(errors[:, None]),
        'error_A': _largest(error_A),
        'error_B': _largest(error_B),
        'contraction': contraction((A + B @ wider) * scale / scale[:, None]),
        'contraction_believed': contraction(believed * unit / unit[:, None]),
    }


def _largest(matrices: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(matrices, ord=2, axis=(1, 2)).max())


def contraction(loops: NDArray[np.float64], window: int = WINDOW) -> float:
    """Return the largest growth per step of products of ``window`` matrices (T, n, n) in a row.

    Below 1, whatever pushes the flight is forgotten within some windows.
    """
    window = min(window, len(loops))
    product = np.broadcast_to(np.eye(loops.shape[-1]), (len(loops) - window + 1, *loops.shape[1:]))
    for k in range(window):
        product = loops[k : k + len(product)] @ product
    return _largest(product) ** (1 / window)


# -- of a finished study ---------------------------------------------------------------------------


def accumulated_bias(gradients: list[dict[str, Any]]) -> list[float]:
    """Return sum_k alpha_k eta_k |bias_k| after each iteration of a run.

    The theorem asks of schedules that it stays finite: what the model's error moved in all.
    """
    parts = (g['step'] * g['trust'] * g['bias'] for g in gradients)
    return list(itertools.accumulate(parts))
