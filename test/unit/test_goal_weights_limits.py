"""The goal frame, the conversion between theta and named weights, and the limits."""

import math

import numpy as np
import pytest
import scipy.linalg

from hmpc_ros.plant.quadcopter import NU, NX, Quadcopter
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.weights import N_TERMINAL, N_THETA, Weights

QUADCOPTER = Quadcopter()


def test_goal_frame_is_a_symmetry_of_the_vehicle():
    rng = np.random.default_rng(1)
    goal = Goal((1.0, -2.0, 3.0), 0.7)
    for _ in range(5):
        x = rng.normal(0, 0.5, NX)
        u = rng.uniform(500, 700, NU)
        then_turned = goal.deviation(QUADCOPTER.step(x, u))
        turned_first = QUADCOPTER.step(goal.deviation(x), u)
        np.testing.assert_allclose(turned_first, then_turned, atol=1e-12)


def test_goal_frame_and_back():
    rng = np.random.default_rng(2)
    goal = Goal((1.0, -2.0, 3.0), -2.0)
    x = rng.normal(size=(4, NX))
    np.testing.assert_allclose(goal.world(goal.deviation(x)), x, atol=1e-14)
    np.testing.assert_allclose(goal.deviation(goal.state), 0, atol=1e-15)
    difference = x[0] - x[1]
    np.testing.assert_allclose(
        goal.deviation(x[0]) - goal.deviation(x[1]), goal.rotation @ difference, atol=1e-12
    )


def test_yaw_error_takes_the_short_way_round():
    x = np.zeros(NX)
    x[8] = 3.0
    assert Goal(yaw=-3.0).deviation(x)[8] == pytest.approx(6.0 - 2 * math.pi)


@pytest.mark.parametrize('position', [(0.0, 0.0), (0.0, math.nan, 0.0)])
def test_impossible_goals_are_refused(position):
    with pytest.raises(ValueError, match='goal'):
        Goal(position)


def test_theta_and_named_weights_are_the_same_thing():
    theta = np.random.default_rng(3).normal(size=N_THETA)
    weights = Weights.from_theta(theta)
    np.testing.assert_array_equal(weights.theta, theta)
    factor = weights.terminal_factor
    assert factor[3, 2] == weights.p[3 * 4 // 2 + 2]  # row by row
    np.testing.assert_allclose(weights.terminal_weight, factor @ factor.T + 1e-6 * np.eye(NX))
    np.testing.assert_allclose(np.diag(weights.state_weight), weights.q**2 + 1e-6)
    np.testing.assert_allclose(np.diag(weights.input_weight), weights.r**2 + 1e-6)


def test_weights_for_a_model_solve_its_riccati_equation():
    model = QUADCOPTER.linearise()
    q, r = np.full(NX, 0.7), np.full(NU, 0.2)
    weights = Weights.for_model(model, q, r)
    p = weights.terminal_factor @ weights.terminal_factor.T
    gain = np.linalg.solve(np.diag(r**2) + model.B.T @ p @ model.B, model.B.T @ p @ model.A)
    closed = model.A - model.B @ gain
    np.testing.assert_allclose(p, np.diag(q**2) + model.A.T @ p @ closed, rtol=1e-8, atol=1e-8)
    assert np.abs(scipy.linalg.eigvals(closed)).max() < 1


def test_weights_without_a_riccati_solution_are_refused():
    model = QUADCOPTER.linearise()
    with pytest.raises(ValueError, match='Riccati'):
        Weights.for_model(model, np.zeros(NX), np.ones(NU))


@pytest.mark.parametrize(
    ('q', 'r', 'p', 'message'),
    [
        (np.ones(11), np.ones(4), np.ones(N_TERMINAL), 'q need 12'),
        (np.ones(12), np.full(4, np.nan), np.ones(N_TERMINAL), 'r must be finite'),
        (np.ones(12), np.ones(4), np.ones((12, 12)), 'p need 78'),
    ],
)
def test_wrong_weights_are_refused(q, r, p, message):
    with pytest.raises(ValueError, match=message):
        Weights(q, r, p)


def test_limits_give_bounds_in_deviations():
    limits = Limits()
    low, high = limits.input_range(QUADCOPTER.hover_input)
    np.testing.assert_allclose(high, 630 - QUADCOPTER.parameters.hover_speed)
    np.testing.assert_allclose(low, -QUADCOPTER.hover_input)
    np.testing.assert_allclose(limits.state_max, [2] * 3 + [math.pi / 4] * 3 + [math.pi / 8] * 3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rotor_min': 700.0}, 'rotor_min < rotor_max'),
        ({'rotor_min': -1.0}, 'rotor_min'),
        ({'rotor_max': math.nan}, 'rotor_max'),
        ({'velocity': (1.0, -1.0, 1.0)}, 'velocity'),
        ({'rates': (1.0, 1.0)}, 'rates'),
    ],
)
def test_impossible_limits_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Limits(**change)


def test_limits_under_which_the_vehicle_cannot_hover_are_refused():
    with pytest.raises(ValueError, match='cannot hover'):
        Limits(rotor_max=600.0).input_range(QUADCOPTER.hover_input)
