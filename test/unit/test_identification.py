from dataclasses import replace

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.plant.identification import IdentificationError, identify
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.policy.linear.identification import (
    FlightPlan,
    fly_for_identification,
    identify_from_flights,
    stabilising_gain,
)
from hmpc_ros.policy.linear.weights import Weights

REFERENCE = ReferenceFlight()
TRUE = LinearModel(
    REFERENCE.model.A,
    REFERENCE.model.B,
    np.linspace(-1e-3, 1e-3, 12),
    0.1,
    REFERENCE.model.hover_input,
)


def linear_flights(count=6, steps=20, noise=0.0, excitation=1.0, seed=0):
    """Flights of a known linear model under its LQR, with a test signal."""
    rng = np.random.default_rng(seed)
    gain = stabilising_gain(REFERENCE.model, REFERENCE.limits)
    flights = []
    for _ in range(count):
        x, states, inputs = 0.1 * rng.standard_normal(12), [], []
        states.append(x)
        for _ in range(steps):
            u = gain @ x + excitation * rng.standard_normal(4)
            x = TRUE.predict(x, u) + noise * rng.standard_normal(12)
            states.append(x)
            inputs.append(u)
        flights.append((np.array(states), np.array(inputs)))
    return flights


def fit(flights, **kwargs):
    return identify(flights, 0.1, TRUE.hover_input, **kwargs)


def test_a_linear_vehicle_is_identified_exactly():
    found = fit(linear_flights())
    assert np.allclose(found.model.A, TRUE.A, atol=1e-9)
    assert np.allclose(found.model.B, TRUE.B, atol=1e-9)
    assert np.allclose(found.model.c, TRUE.c, atol=1e-9)
    assert found.samples == 120
    assert found.residual_rms.max() < 1e-12
    assert np.allclose(found.explained, 1)
    assert found.warnings == ()


def test_noise_shows_in_the_residuals_and_the_standard_errors_are_true():
    sigma, errors, claimed = 1e-3, [], []
    for seed in range(40):
        found = fit(linear_flights(count=10, noise=sigma, seed=seed))
        errors.append(np.column_stack([found.model.A, found.model.B, found.model.c]))
        claimed.append(found.standard_error)
    assert found.residual_rms == pytest.approx(np.full(12, sigma), rel=0.3)
    spread = np.std(errors, axis=0)
    ratio = spread / np.mean(claimed, axis=0)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.15)


def test_too_little_data_is_refused_with_what_is_needed():
    with pytest.raises(IdentificationError, match=r'20 steps .* at least 51'):
        fit(linear_flights(count=1))


def test_feedback_without_a_test_signal_is_refused_as_degenerate():
    with pytest.raises(IdentificationError, match='test signal'):
        fit(linear_flights(excitation=0.0))


def test_an_input_that_never_moves_is_named():
    flights = linear_flights()
    for _, inputs in flights:
        inputs[:, 2] = 0.7
    with pytest.raises(IdentificationError, match='rotor_3 never change'):
        fit(flights)


def test_two_inputs_that_move_together_are_named():
    flights = linear_flights()
    for _, inputs in flights:
        inputs[:, 3] = 2 * inputs[:, 1]
    with pytest.raises(IdentificationError, match=r'rotor_2.*rotor_4|rotor_4.*rotor_2'):
        fit(flights)


def test_inputs_that_almost_move_together_bring_a_warning():
    flights = linear_flights()
    rng = np.random.default_rng(0)
    for _, inputs in flights:
        inputs[:, 3] = inputs[:, 1] + 1e-4 * rng.standard_normal(len(inputs))
    (warning,) = [w for w in fit(flights).warnings if 'condition' in w]
    assert 'rotor_2' in warning
    assert 'rotor_4' in warning


def test_a_model_that_explains_little_brings_a_warning():
    assert any('less than half' in w for w in fit(linear_flights(count=20, noise=0.3)).warnings)


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda flights: flights.clear(), 'no flights'),
        (lambda flights: flights[1][0].__setitem__((3, 4), np.nan), 'flight 1 .* not finite'),
        (lambda flights: flights.append((np.zeros((3, 12)), np.zeros((3, 4)))), r'T\+1'),
    ],
    ids=['nothing', 'NaN', 'shapes'],
)
def test_unusable_data_is_refused(spoil, words):
    flights = linear_flights()
    spoil(flights)
    with pytest.raises(IdentificationError, match=words):
        fit(flights)


@pytest.fixture(scope='module')
def papers_flights():
    gain = stabilising_gain(REFERENCE.model, REFERENCE.limits)
    plan = FlightPlan(attitude=0.05, rates=0.05, flights=40, steps=30)
    flights = fly_for_identification(
        REFERENCE.vehicle, gain, REFERENCE.limits, REFERENCE.goal, plan, seed=3
    )
    return plan, gain, flights


def test_flights_near_hover_identify_the_hover_linearisation(papers_flights):
    _, _, flights = papers_flights
    found = identify_from_flights(flights, 0.1)
    assert np.linalg.norm(found.model.B - TRUE.B) < 0.01 * np.linalg.norm(TRUE.B)
    assert np.abs(found.model.A - TRUE.A).max() < 0.03
    assert found.warnings == ()
    Weights.for_model(found.model, REFERENCE.weights.q, REFERENCE.weights.r)  # it can be flown with


def test_identification_flights_stay_near_the_goal_and_repeat(papers_flights):
    plan, gain, flights = papers_flights
    assert len(flights) == plan.flights
    assert max(np.abs(f.deviations[:, :3]).max() for f in flights) < 1.5
    assert all(f.inputs.max() <= REFERENCE.limits.rotor_max for f in flights)
    again = fly_for_identification(
        REFERENCE.vehicle, gain, REFERENCE.limits, REFERENCE.goal, replace(plan, flights=2), seed=3
    )
    assert np.array_equal(again[1].states, flights[1].states)


@pytest.mark.parametrize(('name', 'value'), [('flights', 0), ('steps', 0), ('excitation', -1.0)])
def test_a_plan_without_sense_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        FlightPlan(**{name: value})
