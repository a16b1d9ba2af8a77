"""The estimators on an objective that is known: J(theta) = g' theta + 1/2 theta' H theta."""

from dataclasses import dataclass

import numpy as np
import pytest

from hmpc_ros.learning.estimators import (
    ControlVariate,
    Hybrid,
    ModelBased,
    ZerothOrder,
    orthonormal_directions,
)
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.requests import NOMINAL, PERTURBED, Evaluation, FlightRequest, answer
from hmpc_ros.learning.schedules import Trust
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.weights import N_THETA
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace
from hmpc_ros.policy.protocol import MissingDerivativeError

RNG = np.random.default_rng(0)
SLOPE = RNG.standard_normal(N_THETA)
CURVATURE = RNG.uniform(0.5, 2.0, N_THETA)
THETA = RNG.standard_normal(N_THETA)
POLICY = Parameters(ParameterSpace((Block('x', (N_THETA,), -100.0, 100.0),)), THETA)
GRADIENT = SLOPE + CURVATURE * THETA
EMPTY = Flight(np.zeros((1, 12)), np.zeros((0, 4)), Goal((0, 0, 0)), np.zeros(4))


class Known:
    """Flies nothing: the flight's cost is the known objective."""

    def __init__(self, unsafe=lambda theta: False):
        self.flown = []
        self.unsafe = unsafe

    def fly(self, request):
        self.flown.append(request)
        return EMPTY

    def cost(self, flight):
        theta = self.flown[-1].theta
        J = SLOPE @ theta + 0.5 * theta @ (CURVATURE * theta)
        return Outcome(J, 0.0, np.inf if self.unsafe(theta) else J)

    def estimate(self, estimator, k=0, seed=0):
        nominal = FlightRequest(POLICY, NOMINAL)
        evaluation = Evaluation(nominal, self.fly(nominal), self.cost(EMPTY))
        self.flown.clear()
        rng = np.random.default_rng(seed)
        return answer(_one_by_one(estimator.estimate(evaluation, k, rng)), self.fly, self)


def _one_by_one(asking):
    """Split requests, since `Known.cost` looks at the last flight."""
    try:
        requests = next(asking)
        while True:
            answers = []
            for request in requests:
                answers += yield [request]
            requests = asking.send(answers)
    except StopIteration as stop:
        return stop.value


@dataclass
class Model:
    """Supplies a model-based gradient that is wrong by a known vector."""

    error: np.ndarray

    def __call__(self, flight, parameters):
        return SLOPE + CURVATURE * parameters.theta + self.error


def test_directions_are_orthonormal_and_uniform():
    rng = np.random.default_rng(1)
    frame = orthonormal_directions(5, N_THETA, rng)
    assert np.allclose(frame @ frame.T, np.eye(5))
    draws = np.array([orthonormal_directions(1, 4, rng)[0] for _ in range(4000)])
    assert np.allclose(draws.mean(axis=0), 0, atol=0.05)
    assert np.allclose(draws.T @ draws / len(draws), np.eye(4) / 4, atol=0.02)


def test_more_directions_than_dimensions_are_refused():
    with pytest.raises(ValueError, match='no 95 orthogonal directions'):
        orthonormal_directions(95, N_THETA, np.random.default_rng(0))


def test_one_sided_is_the_papers_formula():
    known = Known()
    estimate = known.estimate(ZerothOrder(delta=1e-3))
    (request,) = known.flown
    v = (request.theta - THETA) / 1e-3
    assert np.linalg.norm(v) == pytest.approx(1)
    difference = GRADIENT @ v * 1e-3 + 0.5 * v @ (CURVATURE * v) * 1e-6
    assert np.allclose(estimate.gradient, N_THETA / 1e-3 * difference * v, rtol=1e-6)


def test_two_sided_has_no_error_of_second_order():
    known = Known()
    estimate = known.estimate(ZerothOrder(delta=0.5, two_sided=True))
    assert len(known.flown) == 2
    v = (known.flown[0].theta - THETA) / 0.5
    assert np.allclose(estimate.gradient, N_THETA * (GRADIENT @ v) * v)


def test_all_directions_give_the_whole_gradient():
    estimate = Known().estimate(ZerothOrder(delta=0.1, directions=N_THETA, two_sided=True))
    assert np.allclose(estimate.gradient, GRADIENT)


@pytest.mark.parametrize('directions', [1, 6])
def test_the_mean_of_the_zeroth_order_estimate_is_the_gradient(directions):
    known, free = Known(), ZerothOrder(1e-5, directions, two_sided=True)
    draws = [known.estimate(free, seed=seed).gradient for seed in range(3000)]
    error = np.linalg.norm(np.mean(draws, axis=0) - GRADIENT) / np.linalg.norm(GRADIENT)
    assert error < 3 * np.sqrt(N_THETA / directions / len(draws))


def test_model_based_flies_nothing():
    known = Known()
    estimate = known.estimate(ModelBased(Model(np.ones(N_THETA))))
    assert np.allclose(estimate.gradient, GRADIENT + 1)
    assert known.flown == []
    assert estimate.agreement is None


def test_hybrid_mixes_both_by_the_trust_of_the_iteration():
    known = Known()
    hybrid = Hybrid(ModelBased(Model(np.ones(N_THETA))), ZerothOrder(1e-4), Trust(1.0, 0.5))
    estimate = known.estimate(hybrid, k=3)
    assert estimate.trust == 0.5
    assert np.allclose(estimate.gradient, 0.5 * estimate.model + 0.5 * estimate.free)
    cosine = estimate.model @ estimate.free
    cosine /= np.linalg.norm(estimate.model) * np.linalg.norm(estimate.free)
    assert estimate.agreement == pytest.approx(cosine)


@pytest.mark.parametrize(('trust', 'flights'), [(Trust(1.0, 0.5), 0), (Trust(0.0), 1)])
def test_hybrid_spares_the_part_that_has_no_weight(trust, flights):
    known = Known()
    estimate = known.estimate(Hybrid(ModelBased(Model(0)), ZerothOrder(1e-4), trust), k=0)
    assert len(known.flown) == flights
    assert (estimate.model is None) == (flights == 1)


def test_the_control_variate_has_the_hybrids_mean_and_less_variance():
    error = 0.1 * np.ones(N_THETA)
    model, free, trust = ModelBased(Model(error)), ZerothOrder(1e-5, two_sided=True), Trust(1, 0.5)
    known = Known()
    plain, corrected = (
        np.array([known.estimate(kind(model, free, trust), 3, s).gradient for s in range(2000)])
        for kind in (Hybrid, ControlVariate)
    )
    mean = GRADIENT + 0.5 * error
    spread = [np.linalg.norm(draws.std(axis=0)) for draws in (plain, corrected)]
    assert spread[1] < 0.2 * spread[0]
    for draws, size in zip((plain, corrected), spread, strict=True):
        assert np.linalg.norm(draws.mean(axis=0) - mean) < 3 * size / np.sqrt(len(draws))


def test_a_missing_model_gradient_is_left_out_and_said():
    def missing(flight, theta):
        raise MissingDerivativeError((4,), 200)

    hybrid = Hybrid(ModelBased(missing), ZerothOrder(1e-4), Trust(1.0, 0.5))
    estimate = Known().estimate(hybrid, k=3)
    assert estimate.model is None
    assert np.allclose(estimate.gradient, 0.5 * estimate.free)
    assert '4' in estimate.notes[0]


def test_an_infinite_model_gradient_is_left_out_and_said():
    estimate = Known().estimate(ModelBased(Model(np.full(N_THETA, np.inf))))
    assert estimate.model is None
    assert not estimate.gradient.any()
    assert 'not finite' in estimate.notes[0]


def test_an_unsafe_perturbation_is_flown_again_at_half_its_length():
    known = Known(unsafe=lambda theta: np.linalg.norm(theta - THETA) > 0.3)
    estimate = known.estimate(ZerothOrder(delta=1.0))
    lengths = [np.linalg.norm(request.theta - THETA) for request in known.flown]
    assert lengths == pytest.approx([1.0, 0.5, 0.25])
    v = (known.flown[-1].theta - THETA) / 0.25
    assert np.allclose(
        estimate.gradient, N_THETA * (GRADIENT @ v + 0.125 * v @ (CURVATURE * v)) * v
    )
    assert len(estimate.notes) == 2


def test_a_direction_that_stays_unsafe_is_given_up():
    known = Known(unsafe=lambda theta: True)
    estimate = known.estimate(ZerothOrder(delta=1.0, retries=2))
    assert len(known.flown) == 3
    assert estimate.free is None
    assert not estimate.gradient.any()


def test_perturbed_flights_are_marked_so_that_they_never_stay():
    known = Known()
    known.estimate(ZerothOrder(1e-4, directions=3))
    assert {request.purpose for request in known.flown} == {PERTURBED}


@pytest.mark.parametrize(('name', 'value'), [('delta', 0.0), ('delta', np.nan), ('directions', 0)])
def test_nonsense_is_refused(name, value):
    with pytest.raises(ValueError, match=r'delta|direction'):
        ZerothOrder(**{name: value})
