"""The tracking policy's derivative against finite differences and a dense solve."""

import dataclasses

import numpy as np
import pytest

from hmpc_ros.learning.costate import loop_gradient
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.rigid_body import retract
from hmpc_ros.policy.tracking.closed_loop import NominalPlant, augmented
from hmpc_ros.policy.tracking.derivative import N_STATE, differentiate
from hmpc_ros.policy.tracking.parameters import (
    BLOCKS,
    N_THETA,
    TrackingLimits,
    TrackingParameters,
)
from hmpc_ros.policy.tracking.policy import TrackingPolicy

EIGHT = make('lissajous', {})
BELIEVED = TrackingParameters(
    thrust_gain=1.1, drag=(0.3, 0.2, 0.4), thrust_lag=0.06, rate_lags=(0.05, 0.04, 0.2),
    tilt_slack=3.0, speed_slack=1.0,
)  # fmt: skip
# Where nothing, the hard limits or the soft ones bend the plan.
LIMITS = {
    'free': TrackingLimits(),
    'thrust at its bound': TrackingLimits(thrust_min=8.0, thrust_max=11.0, rates=(2.0, 2.0, 0.6)),
    'tilted and fast': TrackingLimits(tilt=0.4, speed=2.5),
}
TIME = 5.0
ERROR = 0.03 * np.random.default_rng(3).standard_normal(12)


@pytest.fixture(scope='module')
def policy():
    return TrackingPolicy(BELIEVED)


def on_the_eight(t, error=0.0):
    states, _ = flat_states(EIGHT.sample(np.array([t])), Drag())
    return retract(states[0], np.broadcast_to(error, 12))


UNMOVED = np.zeros(N_STATE)


def converged(policy, theta=BELIEVED.theta, shown=UNMOVED):
    """Iterate at one point to the end; ``shown`` moves what the policy is shown."""
    policy.set_parameters(TrackingParameters.from_theta(theta))
    policy.reset()
    policy.observer.estimate = np.array([10.2, 1.05, 0.3, -0.2, 0.1]) + shown[12:]
    x = retract(on_the_eight(TIME, ERROR), shown[:12])
    last = 0.0
    for _ in range(100):
        solution = policy.solve(x, EIGHT, TIME)
        assert solution.ok
        change = np.abs(solution.states - last).max()
        if change < 1e-12:
            return solution
        last = solution.states
    raise AssertionError(f'the iterations do not converge: {change} after 100')


def differences(function, size, step):
    """Differentiate by central differences of fourth order, a column per variable."""
    columns = []
    for i in range(size):
        unit = np.zeros(size)
        unit[i] = step[i]
        near, far = (function(k * unit) - function(-k * unit) for k in (1, 2))
        columns.append((8 * near - far) / (12 * step[i]))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize('limits', LIMITS)
def test_it_agrees_with_differences_of_the_converged_solver(policy, limits):
    policy.set_limits(LIMITS[limits])
    derivative = differentiate([converged(policy)], BELIEVED, LIMITS[limits])
    by_state = differences(
        lambda shown: converged(policy, shown=shown).inputs[0], N_STATE, np.full(N_STATE, 1e-3)
    )
    theta = BELIEVED.theta
    steps = 1e-3 * np.maximum(theta, 0.1)
    by_theta = differences(
        lambda moved: converged(policy, theta + moved).inputs[0], N_THETA, steps
    )
    for exact, numeric in (
        (derivative.state_gain[0], by_state),
        (derivative.jacobian()[0], by_theta),
    ):
        size = np.abs(numeric).max(axis=0)
        error = np.abs(exact - numeric).max(axis=0)
        assert np.all(error < 1e-5 * np.maximum(size, 1e-2 * size.max()))


PERIOD = 0.01
# The vehicle is not what the policy believes: the observer has work to do.
TRUE = dataclasses.replace(BELIEVED, thrust_gain=0.95, drag=(0.2, 0.3, 0.2), thrust_lag=0.05)


def fly(policy, plant, theta, steps=60, iterations=1):
    """Fly the eight from near it; one iteration a step is what flies."""
    policy.set_parameters(TrackingParameters.from_theta(theta))
    policy.reset()
    plant.reset(on_the_eight(TIME, ERROR))
    states, solutions = [plant.state], []
    for t in TIME + PERIOD * np.arange(steps):
        for _ in range(iterations):
            solution = policy.solve(plant.state, EIGHT, t)
            assert solution.ok
        solutions.append(solution)
        plant.step(solutions[-1].input)
        states.append(plant.state)
    return np.array(states), solutions


def cost(states):
    """Return the mean squared position error, and its derivative by the errors of the states."""
    times = TIME + PERIOD * np.arange(len(states))
    errors = states[:, :3] - EIGHT.sample(times).position
    slope = np.zeros((len(states), 12))
    slope[:, :3] = 2 * errors / len(states)
    return np.mean(np.sum(errors**2, axis=1)), slope


def flight_gradient(policy, plant, theta, states, solutions):
    parameters = TrackingParameters.from_theta(theta)
    derivative = differentiate(solutions, parameters, policy.limits)
    inputs = np.array([s.input for s in solutions])
    estimates = np.array([s.estimate for s in solutions])
    jacobians = plant.jacobians(states, inputs)
    loop = augmented(parameters, states, inputs, estimates, jacobians, PERIOD)
    return loop_gradient(derivative, loop, cost(states)[1], np.zeros_like(inputs))


def slopes(policy, plant, theta, directions, **flight):
    """Differentiate the cost of whole flights by central differences along directions (k, n)."""
    return np.array([
        np.subtract(*(cost(fly(policy, plant, theta + s * d, **flight)[0])[0] for s in (1, -1))) / 2
        for d in directions
    ])  # fmt: skip


def test_the_gradient_of_a_flight_is_exact_where_every_solve_is_converged(policy):
    policy.set_limits(LIMITS['free'])
    plant, theta, flight = NominalPlant(TRUE, PERIOD), BELIEVED.theta, {'steps': 40, 'iterations': 8}
    gradient = flight_gradient(policy, plant, theta, *fly(policy, plant, theta, **flight))
    # Of the blocks that act in ways of their own: weights, the observer's, all.
    directions = 1e-4 * theta * np.random.default_rng(0).choice((-1, 1), (3, theta.size))
    directions[0, BLOCKS['thrust_gain'].start :] = 0
    directions[1, : BLOCKS['thrust_gain'].start] = 0
    numeric = slopes(policy, plant, theta, directions, **flight)
    np.testing.assert_allclose(directions @ gradient, numeric, rtol=1e-5)


def test_the_gradient_of_a_flight_is_that_of_the_real_time_iterations(policy):
    policy.set_limits(LIMITS['free'])
    plant, theta = NominalPlant(TRUE, PERIOD), BELIEVED.theta
    gradient = flight_gradient(policy, plant, theta, *fly(policy, plant, theta))
    # In parts of theta: a weight of 8 and a lag of 0.05 s weigh the same.
    numeric = slopes(policy, plant, theta, np.diag(1e-3 * theta)) * 1e3
    gradient = gradient * theta
    assert np.linalg.norm(gradient - numeric) < 0.02 * np.linalg.norm(numeric)
    assert gradient @ numeric > 0.999 * np.linalg.norm(gradient) * np.linalg.norm(numeric)
