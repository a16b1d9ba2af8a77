"""The composite model: exact where it must be, and its step against independent answers."""

import numpy as np
import pytest
import scipy.optimize
from reference_flight import ReferenceFlight

from hmpc_ros.learning.composite import CompositeModel
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.objective import Objective


def random_model(rng, n=8, m=12, penalty=3.0):
    root = rng.standard_normal((n, n))
    return CompositeModel(
        rng.standard_normal(n),
        root @ root.T,
        rng.uniform(-0.5, 0.5, m),
        rng.standard_normal((m, n)),
        penalty,
    )


def damped(model, damping, d):
    return model.change(d) + 0.5 * damping * d @ (model.scale * d)


@pytest.fixture(scope='module')
def at_reference():
    """Return the reference flight, and its composite model with the true Jacobians."""
    reference = ReferenceFlight()
    flight = reference.fly()
    policy = reference.mpc.differentiate(flight.solutions)
    A, B = reference.quadcopter.jacobians_along(flight.deviations[:-1], flight.inputs)
    sensitivity = forward_sensitivity(policy.state_gain, policy.jacobian(), A, B)
    model = CompositeModel.of_flight(flight, sensitivity, reference.objective)
    return reference, flight, sensitivity, model


def test_it_is_the_cost_of_the_linearised_flight(at_reference):
    reference, flight, sensitivity, model = at_reference
    d = 0.01 * np.random.default_rng(0).standard_normal(94)
    x = flight.deviations + sensitivity.states @ d
    u = flight.input_deviations + sensitivity.inputs @ d

    def cost(x, u):
        objective: Objective = reference.objective
        tracking = np.sum((x[:-1] ** 2) @ objective.state_weights)
        tracking += np.sum((u**2) @ objective.input_weights)
        tracking += (x[-1] ** 2) @ objective.terminal_weights
        return tracking + objective.penalty * objective.excess(x).sum()

    change = cost(x, u) - cost(flight.deviations, flight.input_deviations)
    assert model.change(d) == pytest.approx(change, rel=1e-5)
    assert model.change(np.zeros(94)) == 0


def test_to_first_order_it_is_the_cost_of_the_real_flight(at_reference):
    reference, flight, _, model = at_reference
    v = np.random.default_rng(1).standard_normal(94)
    v /= np.linalg.norm(v)
    for length in (1e-3, 1e-4):
        theta = reference.weights.theta + length * v
        change = reference.objective.cost(reference.fly(theta)).J
        change -= reference.objective.cost(flight).J
        assert model.change(length * v) == pytest.approx(change, rel=50 * length, abs=1e-6)


@pytest.mark.parametrize('seed', range(8))
def test_the_step_minimises_the_damped_model(seed):
    rng = np.random.default_rng(seed)
    model, damping = random_model(rng), 10.0 ** rng.uniform(-3, 1)
    d = model.step(damping)
    # The same problem with slacks, by another method: min over (d, s), s >= 0, s >= r + G d.
    n, m = 8, 12
    rows = np.hstack([-model.slopes, np.eye(m)])
    result = scipy.optimize.minimize(
        lambda z: (
            model.gradient @ z[:n]
            + 0.5 * z[:n] @ (model.hessian + damping * np.diag(model.scale)) @ z[:n]
            + model.penalty * z[n:].sum()
        ),
        np.concatenate([np.zeros(n), np.maximum(0, model.distances) + 0.1]),
        constraints={'type': 'ineq', 'fun': lambda z: rows @ z - model.distances},
        bounds=[(None, None)] * n + [(0, None)] * m,
        method='SLSQP',
        options={'maxiter': 500, 'ftol': 1e-12},
    )
    assert damped(model, damping, d) <= damped(model, damping, result.x[:n]) + 1e-6
    assert damped(model, damping, d) < 0


def test_more_damping_makes_shorter_steps():
    model = random_model(np.random.default_rng(0))
    lengths = [np.linalg.norm(model.step(damping)) for damping in (1e-3, 1e-1, 10.0, 1e3)]
    assert lengths == sorted(lengths, reverse=True)


def test_without_a_bound_near_it_is_the_gauss_newton_step():
    model = random_model(np.random.default_rng(0), m=0)
    expected = -np.linalg.solve(model.hessian + 0.5 * np.diag(model.scale), model.gradient)
    assert model.step(0.5) == pytest.approx(expected)


def test_the_mean_of_models_is_the_model_of_the_mean():
    rng = np.random.default_rng(2)
    models = [random_model(rng) for _ in range(3)]
    d = rng.standard_normal(8)
    expected = np.mean([model.change(d) for model in models])
    assert CompositeModel.mean(models).change(d) == pytest.approx(expected)


def test_sensitivities_that_are_not_finite_are_refused():
    model = random_model(np.random.default_rng(0))
    broken = CompositeModel(
        model.gradient, np.full((8, 8), np.inf), model.distances, model.slopes, 1.0
    )
    with pytest.raises(ValueError, match='not finite'):
        broken.step(1.0)
