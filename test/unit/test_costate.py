"""The gradient of a whole flight, against finite differences and against an analytic answer.

J is piecewise smooth. Its kinks are where a bound of some MPC solve begins or ceases to act, and
where a state crosses its bound in the objective. They are told apart in two ways. A flight of which
a solve has an `activity_margin` below 3e-4 is near a kink, where the interior-point solution rounds
the corner (typical errors: 1e-4 at a margin of 2e-5, 1e-2 at 5e-6). A central difference is only
compared where both of its ends have the same signature, i.e. the same acting bounds in every solve
and the same violated states at every step.

Relative errors of slopes in random directions, as printed with -s: on the reference flight 7e-7 to
6e-6; on flights to other goals under other weights, away from kinks, 2e-10 to 8e-6. (Those others
are flown with a solver tolerance of 1e-10; four seeds, 60 slopes, gave at most 1e-4. With the usual
1e-8 it is 4e-4: a weakly acting bound multiplies what the solver leaves open.)
"""

import numpy as np
import pytest
from activity import activity_margin
from reference_flight import ReferenceFlight

from hmpc_ros.learning.costate import FlightGradient, gradient
from hmpc_ros.learning.estimators import orthonormal_directions
from hmpc_ros.learning.objective import Objective
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import BOUNDED_STATES
from hmpc_ros.policy.linear.qp_solver import SolverOptions
from hmpc_ros.policy.linear.sensitivity import (
    MissingDerivativeError,
    unbounded_recursion,
)
from hmpc_ros.policy.linear.weights import N_THETA, Weights

STEP = 1e-5
NEAR_A_KINK = 3e-4
TIGHT = SolverOptions(qp_tolerance=1e-10)


@pytest.fixture(scope='module')
def reference():
    return ReferenceFlight()


def signature(reference, flight):
    """Which bounds act in each solve, and which states are violated at each step."""
    lowest, highest = reference.limits.input_range(reference.model.hover_input)
    parts = [reference.objective.excess(flight.deviations) > 0]
    for solution in flight.solutions:
        u, x = solution.inputs, solution.states[1:, BOUNDED_STATES]
        slack = solution.slacks
        u_distance = np.stack([u - lowest, highest - u], axis=1)
        x_max = reference.limits.state_max
        x_distance = np.stack([x_max + x, x_max - x], axis=1) + slack
        parts += [
            solution.input_multipliers > u_distance,
            solution.state_multipliers > x_distance,
            slack > solution.slack_multipliers,
        ]
    return np.concatenate([part.ravel() for part in parts])


def near_a_kink(there, flight):
    acting = [s for s in flight.solutions if s.input_multipliers.any() or s.state_multipliers.any()]
    if not acting:
        return False
    margins = activity_margin(there.model, there.mpc.weights, there.limits, acting)
    return margins.min() < NEAR_A_KINK


def slope_errors(there, theta, flight, rng, directions):
    """Relative errors of slopes in random directions, without those that cross a kink."""
    exact = there.gradient(there.quadcopter)(flight, there.start.with_theta(theta))
    errors = []
    for v in orthonormal_directions(directions, N_THETA, rng):
        ends = [there.fly(theta + sign * STEP * v) for sign in (1, -1)]
        if np.array_equal(*(signature(there, end) for end in ends)):
            up, down = (there.objective.cost(end).J for end in ends)
            # Relative to the slope, or to a hundredth of the steepest one where v is nearly level.
            scale = max(abs(exact @ v), 0.01 * np.linalg.norm(exact))
            errors.append(abs((up - down) / (2 * STEP) - exact @ v) / scale)
    return errors


def test_with_the_true_jacobians_it_is_the_derivative_of_the_reference_flight(reference):
    theta = reference.weights.theta
    rng = np.random.default_rng(0)
    errors = slope_errors(reference, theta, reference.fly(), rng, directions=6)
    print(f'reference flight: {np.array2string(np.sort(errors), precision=1)}')
    assert len(errors) >= 4
    assert max(errors) < 1e-4


def test_with_the_true_jacobians_it_is_the_derivative_of_other_flights(reference):
    rng = np.random.default_rng(6)
    errors, kinks = [], 0
    for place in range(14):
        theta = reference.weights.theta
        if place % 2:
            theta = theta * (1 + 0.1 * rng.standard_normal(N_THETA))
        goal = Goal(rng.uniform((-6, -6, 0), (6, 6, 1)), rng.uniform(-0.5, 0.5))
        there = ReferenceFlight(goal=goal, options=TIGHT)
        flight = there.fly(theta)
        if near_a_kink(there, flight):
            kinks += 1
        else:
            errors += slope_errors(there, theta, flight, rng, directions=3)
    print(f'other flights: {np.array2string(np.sort(errors), precision=1)}, {kinks} near a kink')
    assert len(errors) >= 9
    assert max(errors) < 1e-4


def test_the_models_jacobians_give_another_gradient_that_still_descends(reference):
    flight, theta = reference.fly(), reference.weights.theta
    exact = reference.gradient(reference.quadcopter)(flight, reference.start.with_theta(theta))
    approximate = reference.gradient(reference.model)(flight, reference.start.with_theta(theta))
    assert not np.allclose(exact, approximate, rtol=0.05)
    cosine = exact @ approximate / np.linalg.norm(exact) / np.linalg.norm(approximate)
    assert cosine > 0.9


def test_a_flight_without_solutions_is_solved_again_for_its_gradient(reference):
    theta, start = reference.weights.theta, reference.start
    flight = reference.fly()
    bare = Flight(flight.states, flight.inputs, flight.goal, flight.hover_input)
    of = reference.gradient(reference.model)
    expected = of(flight, start)
    reference.mpc.set_weights(Weights.from_theta(2 * theta))  # whatever was flown in between
    assert np.linalg.norm(of(bare, start) - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_failed_step_leaves_no_gradient_rather_than_a_wrong_one(reference):
    flight = reference.fly()
    failed = Flight(
        flight.states, flight.inputs, flight.goal, flight.hover_input, failed_steps=(7, 9)
    )
    with pytest.raises(MissingDerivativeError) as caught:
        reference.gradient(reference.model)(failed, reference.start)
    assert caught.value.steps == (7, 9)


# -- against the analytic answer for a linear plant without bounds ---------------------------------


def linear_flight(reference, theta, x0, steps):
    """Fly the linear model itself, so gently that no bound acts."""
    model, mpc = reference.model, reference.mpc
    mpc.set_weights(Weights.from_theta(theta))
    x, states, inputs, solutions = x0, [x0], [], []
    for _ in range(steps):
        solution = mpc.solve_deviation(x)
        assert not solution.input_multipliers.any()
        assert not solution.state_multipliers.any()
        u = solution.input - model.hover_input
        x = model.predict(x, u)
        states.append(x)
        inputs.append(solution.input)
        solutions.append(solution)
    return Flight(
        np.array(states), np.array(inputs), Goal((0, 0, 0)), model.hover_input, tuple(solutions)
    )


def lqr_gain(reference, theta):
    return unbounded_recursion(reference.model, Weights.from_theta(theta), 12).gains[0, ..., 0]


def test_without_bounds_it_is_the_analytic_gradient_of_the_quadratic_cost(reference):
    """J = x_0' S_0 x_0 with the Lyapunov recursion S_t; its derivative in K is known."""
    rng = np.random.default_rng(0)
    objective = Objective(
        rng.uniform(0.1, 2, 12),
        rng.uniform(0.01, 0.1, 4),
        rng.uniform(1, 5, 12),
        0.0,
        state_max=np.ones(9),
    )
    theta = reference.weights.theta * (1 + 0.1 * rng.standard_normal(N_THETA))
    x0, steps = 1e-3 * rng.standard_normal(12), 50
    flight = linear_flight(reference, theta, x0, steps)
    of = FlightGradient(reference.mpc, reference.model, objective)
    found = of(flight, reference.start.with_theta(theta))

    A, B = reference.model.A, reference.model.B
    K = lqr_gain(reference, theta)
    QQ, RR = np.diag(objective.state_weights), np.diag(objective.input_weights)
    S = np.diag(objective.terminal_weights)
    dJ_dK = np.zeros_like(K)
    for x in flight.states[-2::-1]:
        dJ_dK += 2 * np.outer((RR @ K + B.T @ S @ (A + B @ K)) @ x, x)
        S = QQ + K.T @ RR @ K + (A + B @ K).T @ S @ (A + B @ K)
    assert x0 @ S @ x0 == pytest.approx(objective.cost(flight).J, rel=1e-9)
    analytic = np.empty(N_THETA)
    for i, direction in enumerate(1e-6 * np.eye(N_THETA)):
        dK = (
            lqr_gain(reference, theta + direction) - lqr_gain(reference, theta - direction)
        ) / 2e-6
        analytic[i] = np.sum(dJ_dK * dK)
    assert np.linalg.norm(found - analytic) < 1e-6 * np.linalg.norm(analytic)


def test_the_optimal_weights_of_a_linear_plant_are_stationary(reference):
    """The LQR of the objective's own weights is optimal over a long flight."""
    weights, objective = reference.weights, reference.objective
    long = Objective(
        objective.state_weights + 1e-6,
        objective.input_weights + 1e-6,
        np.zeros(12),
        0.0,
        state_max=np.ones(9),
    )
    x0 = 1e-3 * np.random.default_rng(1).standard_normal(12)

    def slope(theta):
        flight = linear_flight(reference, theta, x0, 400)
        policy = reference.mpc.differentiate(flight.solutions)
        return np.linalg.norm(gradient(flight, policy, reference.model, long))

    elsewhere = Weights(1.2 * weights.q, weights.r, weights.p).theta
    assert slope(weights.theta) < 1e-3 * slope(elsewhere)
