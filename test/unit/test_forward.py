"""Forward sensitivities against the costate recursion and against flights."""

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.learning.costate import gradient
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.rehearsal import Rehearsal
from hmpc_ros.plant.surrogate import Surrogate


@pytest.fixture(scope='module')
def reference():
    return ReferenceFlight()


def test_forward_and_costate_are_transposes_of_each_other(reference):
    flight = reference.fly()
    policy = reference.mpc.differentiate(flight.solutions)
    A, B = reference.quadcopter.jacobians_along(flight.deviations[:-1], flight.inputs)
    sensitivity = forward_sensitivity(policy.state_gain, policy.jacobian(), A, B)
    dJ_dx, dJ_du = reference.objective.derivatives(flight)
    forward = np.einsum('ti,tij->j', dJ_dx, sensitivity.states)
    forward += np.einsum('ti,tij->j', dJ_du, sensitivity.inputs)
    backward = gradient(flight, policy, reference.quadcopter, reference.objective)
    assert forward == pytest.approx(backward, rel=1e-9, abs=1e-9 * np.abs(backward).max())


def test_without_past_inputs_both_recursions_agree():
    rng = np.random.default_rng(0)
    steps = 15
    K, P = rng.standard_normal((steps, 4, 12)), rng.standard_normal((steps, 4, 94))
    A, B = 0.1 * rng.standard_normal((steps, 12, 12)), 0.1 * rng.standard_normal((steps, 12, 4))
    plain = forward_sensitivity(K, P, A, B)
    augmented = forward_sensitivity(K, P, A, B, np.zeros((steps, 2, 12, 4)))
    assert augmented.states == pytest.approx(plain.states)
    assert augmented.inputs == pytest.approx(plain.inputs)


def test_past_inputs_are_part_of_the_sensitivities():
    lagging = ReferenceFlight(steps=60, motor_time_constant=0.1)
    surrogate = Surrogate(lagging.model, lagging.objective.state_max)
    theta, rng = lagging.weights.theta, np.random.default_rng(0)
    for _ in range(4):
        flight = lagging.fly(theta + 0.02 * rng.standard_normal(94))
        surrogate.add(flight.deviations, flight.input_deviations)

    def rehearse(theta):
        lagging.mpc.use(lagging.start.with_theta(theta))
        start, nothing = flight.deviations[0], np.zeros((60, 12))
        return Rehearsal(surrogate.predictor(), start, nothing).fly(lagging.mpc, True)

    nominal = rehearse(theta)
    policy = lagging.mpc.differentiate(nominal.solutions)
    jacobians = surrogate.augmented_jacobians_along(nominal.deviations[:-1], nominal.inputs)
    sensitivity = forward_sensitivity(policy.state_gain, policy.jacobian(), *jacobians)
    v, h = rng.standard_normal(94) / 10, 1e-5
    moved = (rehearse(theta + h * v).states - rehearse(theta - h * v).states) / (2 * h)
    error = np.abs(moved - sensitivity.states @ v)
    assert error.max() < 1e-3 * np.abs(moved).max()
