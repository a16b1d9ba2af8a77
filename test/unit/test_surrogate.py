"""The surrogate of the plant: what it learns, how it predicts, and that it does not grow."""

import numpy as np
import pytest

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.plant.surrogate import RELEVANCE, Surrogate
from hmpc_ros.policy.linear.identification import stabilising_gain
from hmpc_ros.policy.linear.limits import Limits

STATE_MAX = Limits().state_max


@pytest.fixture(scope='module')
def model():
    return Quadcopter().linearise()


def wander(step, rng, steps=200, noise=0.0):
    """Fly about the origin under LQR with a test signal on the rotors; return what is measured."""
    gain = stabilising_gain(Quadcopter().linearise(), Limits())
    states, inputs = np.zeros((steps + 1, 12)), np.zeros((steps, 4))
    states[0, 3:] = 0.3 * rng.uniform(-1, 1, 9) * STATE_MAX
    signal = 3.0 * rng.standard_normal((steps, 4))
    error = np.zeros((steps + 1, 12))
    if noise:
        error = noise * np.r_[np.ones(3), STATE_MAX] * rng.standard_normal(error.shape)
    for t in range(steps):
        inputs[t] = np.clip(gain @ (states[t] + error[t]), -20, 20) + signal[t]
        states[t + 1] = step(states[t], inputs[t], inputs[max(0, t - 2) : t][::-1])
    return states + error, inputs


def vehicle(parameters=None):
    quadcopter = Quadcopter(parameters)
    hover = Quadcopter().hover_input
    return lambda x, u, _past: quadcopter.step(x, u + hover)


def errors_along(surrogate, quadcopter, states, inputs):
    """Return how wrong the Jacobians of surrogate and linear model are along a flight."""
    speeds = inputs + surrogate.model.hover_input
    true = quadcopter.jacobians_along(states[:-1], speeds)

    def error(source):
        found = source.jacobians_along(states[:-1], speeds)
        return sum(np.abs(a - b).mean() for a, b in zip(found, true, strict=True))

    return error(surrogate), error(surrogate.model)


def test_it_learns_the_vehicles_jacobians_from_a_few_flights(model):
    rng = np.random.default_rng(0)
    parameters = QuadcopterParameters(inertia=(7e-3, 7e-3, 13e-3), linear_drag=(0.7,) * 3)
    surrogate = Surrogate(model, STATE_MAX)
    for _ in range(8):
        surrogate.add(*wander(vehicle(parameters), rng))
    flight = wander(vehicle(parameters), rng)
    learned, linear = errors_along(surrogate, Quadcopter(parameters), *flight)
    assert learned < 0.2 * linear


def test_with_instruments_it_learns_the_vehicle_and_not_the_noise(model):
    parameters = QuadcopterParameters(inertia=(7e-3, 7e-3, 13e-3), linear_drag=(0.7,) * 3)
    plain, instrumented = Surrogate(model, STATE_MAX), Surrogate(model, STATE_MAX)
    for seed in range(12):
        flight, expected = (
            wander(vehicle(parameters), np.random.default_rng(seed), noise=noise)
            for noise in (0.01, 0.0)
        )
        plain.add(*flight)
        instrumented.add(*flight, expected)
    flight = wander(vehicle(parameters), np.random.default_rng(100))
    misled, linear = errors_along(plain, Quadcopter(parameters), *flight)
    learned, _ = errors_along(instrumented, Quadcopter(parameters), *flight)
    assert misled > linear
    assert learned < 0.6 * linear


def test_motor_lag_and_delay_are_learned_from_the_past_inputs(model):
    rng = np.random.default_rng(1)

    def delayed(x, u, past):
        last = past[0] if len(past) else np.zeros(4)
        return model.predict(x, 0.25 * u + 0.75 * last)

    surrogate = Surrogate(model, STATE_MAX)
    for _ in range(6):
        surrogate.add(*wander(delayed, rng))
    _, B, lagged = surrogate.augmented_jacobians_along(np.zeros((1, 12)), model.hover_input[None])
    assert B[0] == pytest.approx(0.25 * model.B, abs=1e-4)
    assert lagged[0, 0] == pytest.approx(0.75 * model.B, abs=1e-4)
    assert lagged[0, 1] == pytest.approx(np.zeros((12, 4)), abs=1e-4)
    # For an MPC that knows of one input only, all of it counts.
    assert surrogate.hover_model().B == pytest.approx(model.B, abs=1e-4)


def test_the_hover_model_corrects_a_wrong_model(model):
    rng = np.random.default_rng(2)
    wrong = LinearModel(model.A, 0.6 * model.B, model.c, model.time_step, model.hover_input)
    surrogate = Surrogate(wrong, STATE_MAX)
    for _ in range(5):
        surrogate.add(*wander(vehicle(), rng))
    assert np.abs(surrogate.hover_model().B - model.B).max() < 0.1 * np.abs(model.B).max()


def test_jacobians_are_the_derivatives_of_the_prediction(model):
    rng = np.random.default_rng(3)
    surrogate = Surrogate(model, STATE_MAX)
    for _ in range(3):
        surrogate.add(*wander(vehicle(), rng))
    predictor = surrogate.predictor()
    past, x, u = rng.standard_normal((2, 4)), 0.1 * rng.standard_normal(12), rng.standard_normal(4)

    def predict(x, u, past):
        predictor.begin()
        for earlier in past[::-1]:
            predictor.step(np.zeros(12), earlier)
        return predictor.step(x, u)

    A, B, lagged = surrogate.augmented_jacobians_along(x[None], (u + model.hover_input)[None])
    h = 1e-5
    for derivative, argument in ((A[0], 0), (B[0], 1), (lagged[0, 0], 2), (lagged[0, 1], 3)):
        for i in range(derivative.shape[1]):
            ends = []
            for sign in (1, -1):
                at = [x.copy(), u.copy(), past[0].copy(), past[1].copy()]
                at[argument][i] += sign * h
                ends.append(predict(at[0], at[1], np.array(at[2:])))
            assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(derivative[:, i], abs=1e-6)


def test_prediction_and_residuals_add_up_to_what_was_flown(model):
    rng = np.random.default_rng(4)
    surrogate = Surrogate(model, STATE_MAX)
    surrogate.add(*wander(vehicle(), rng))
    states, inputs = wander(vehicle(), rng, steps=20)
    residuals, predictor = surrogate.residuals(states, inputs), surrogate.predictor()
    predictor.begin()
    for t in range(20):
        assert predictor.step(states[t], inputs[t]) + residuals[t] == pytest.approx(
            states[t + 1], abs=1e-12
        )


def test_a_flight_is_predicted_before_it_is_learned_from(model):
    rng = np.random.default_rng(5)
    surrogate = Surrogate(model, STATE_MAX)
    flight = wander(vehicle(), rng)
    assert surrogate.add(*flight) is None
    first = surrogate.add(*wander(vehicle(), rng))
    for _ in range(6):
        last = surrogate.add(*wander(vehicle(), rng))
    assert last.error.mean() < 0.1 * first.error.mean()
    assert last.explained > 0.99


def test_with_pure_noise_the_flexible_ways_are_not_believed(model):
    rng = np.random.default_rng(6)

    def noisy(x, u, _past):
        return model.predict(x, u) + 0.02 * rng.standard_normal(12)

    surrogate = Surrogate(model, STATE_MAX)
    for _ in range(10):
        prediction = surrogate.add(*wander(noisy, rng))
    # Nothing can be explained; what matters is that next to nothing is made worse.
    assert np.all(prediction.error < 1.03 * prediction.linear_error)


def test_steps_far_outside_are_not_learned_from(model):
    rng = np.random.default_rng(7)
    surrogate = Surrogate(model, STATE_MAX)
    states, inputs = wander(vehicle(), rng)
    surrogate.add(states, inputs)
    before = surrogate.hover_model()
    wild = states.copy()
    wild[:, 6] += 4.0
    wild[5] = np.inf
    assert surrogate.add(wild, inputs) is None
    assert surrogate.hover_model().same_as(before)


@pytest.mark.parametrize('noise', [0.0, 0.01])
def test_what_it_keeps_does_not_grow_and_can_be_restored(model, noise):
    rng = np.random.default_rng(8)
    surrogate, sizes = Surrogate(model, STATE_MAX), set()
    expected = wander(vehicle(), np.random.default_rng(8)) if noise else None
    for _ in range(4):
        surrogate.add(*wander(vehicle(), rng, noise=noise), expected)
        sizes.add(sum(array.size for array in surrogate.arrays().values()))
    assert len(sizes) == 1
    other = Surrogate(model, STATE_MAX)
    other.restore(surrogate.arrays())
    flight = wander(vehicle(), rng)
    for one in (surrogate, other):
        one.add(*flight, expected)
    assert other.hover_model().same_as(surrogate.hover_model())
    assert np.array_equal(other.residuals(*flight), surrogate.residuals(*flight))


def test_the_relevant_features_are_few(model):
    rng = np.random.default_rng(9)
    surrogate = Surrogate(model, STATE_MAX)
    for _ in range(12):
        surrogate.add(*wander(vehicle(), rng, noise=0.01))
    # The error of the body rates comes from products of rates and rotor speeds, and from squared
    # rotor speeds; most of the features have no business there.
    strong = np.abs(surrogate._candidates[RELEVANCE, :, 9]) > 1e-4
    assert 0 < strong.sum() < 40  # 19 of 116, and 113 where all have one and the same weight
