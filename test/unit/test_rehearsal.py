"""Rehearsals on the surrogate, and the noise of flights."""

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.learning.noise import ResidualNoise
from hmpc_ros.learning.rehearsal import Rehearsal
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.linear.limits import Limits

STATE_MAX = Limits().state_max


@pytest.fixture(scope='module')
def learned():
    """Return the reference, a surrogate that has seen ten flights, and the first of them."""
    reference = ReferenceFlight()
    surrogate = Surrogate(reference.model, STATE_MAX)
    rng, theta = np.random.default_rng(0), reference.weights.theta
    flights = [reference.fly(theta)]
    flights += [reference.fly(theta + 0.03 * rng.standard_normal(94)) for _ in range(9)]
    for flight in flights:
        surrogate.add(flight.deviations, flight.input_deviations)
    return reference, surrogate, flights[0]


def rehearsal(surrogate, flight):
    residuals = surrogate.residuals(flight.deviations, flight.input_deviations)
    return Rehearsal(surrogate.predictor(), flight.deviations[0], residuals)


def test_under_its_own_weights_the_rehearsal_is_the_flight(learned):
    reference, surrogate, flight = learned
    reference.mpc.use(reference.start)
    whole = rehearsal(surrogate, flight).fly(reference.mpc, keep_solutions=True)
    quick = rehearsal(surrogate, flight).fly(reference.mpc)
    assert len(whole.solutions) == 200
    assert not quick.solutions
    for rehearsed in (whole, quick):
        assert np.abs(rehearsed.deviations - flight.deviations).max() < 1e-8
        assert np.abs(rehearsed.inputs - flight.inputs).max() < 1e-6


def test_it_foretells_what_other_weights_cost(learned):
    reference, surrogate, flight = learned
    rng, before = np.random.default_rng(1), reference.objective.cost(flight).J
    changes, errors = [], []
    for _ in range(5):
        theta = reference.weights.theta + 0.05 * rng.standard_normal(94)
        reference.mpc.use(reference.start.with_theta(theta))
        rehearsed = reference.objective.cost(rehearsal(surrogate, flight).fly(reference.mpc)).J
        flown = reference.objective.cost(reference.fly(theta)).J
        changes.append(abs(flown - before))
        errors.append(abs(rehearsed - flown))
    assert np.mean(errors) < 0.1 * np.mean(changes)


def test_a_rehearsal_that_runs_away_has_no_cost(learned):
    reference, surrogate, flight = learned
    push = np.zeros((200, 12))
    push[10:, 3] = 3.0
    reference.mpc.use(reference.start)
    pushed = Rehearsal(surrogate.predictor(), flight.deviations[0], push).fly(reference.mpc)
    assert pushed.ended
    assert not reference.objective.cost(pushed).finite


def residuals_of(reference, number=0):
    surrogate = Surrogate(reference.model, STATE_MAX)
    for i in range(3):
        flight = reference.fly(number=number + i)
        surrogate.add(flight.deviations, flight.input_deviations)
    return surrogate.residuals(flight.deviations, flight.input_deviations)


def test_noise_is_told_from_what_comes_back():
    quiet = ResidualNoise()
    quiet.learn(residuals_of(ReferenceFlight(wind_force=(0.0, 0.3, 0.0))))
    assert not quiet.matters(STATE_MAX)
    noise = ResidualNoise()
    noise.learn(residuals_of(ReferenceFlight(process_noise_std=(2e-3,) * 12)))
    assert noise.matters(STATE_MAX)
    assert np.sqrt(noise.variance) == pytest.approx(2e-3, rel=0.4)


def test_oscillation_is_no_noise():
    time = np.arange(200)[:, None]
    swinging = ResidualNoise()
    swinging.learn(0.01 * np.sin(2 * np.pi * time / 25 + np.arange(12)))
    assert not swinging.matters(STATE_MAX)


def test_noise_is_in_every_flight():
    noise, rng = ResidualNoise(), np.random.default_rng(0)
    noise.learn(0.1 * rng.standard_normal((200, 12)))
    noise.learn(1e-7 * rng.standard_normal((200, 12)))
    assert not noise.matters(STATE_MAX)
