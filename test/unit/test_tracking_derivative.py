"""The tracking policy's derivative against finite differences and a dense solve."""

import numpy as np
import pytest

from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.rigid_body import retract
from hmpc_ros.policy.tracking.derivative import N_STATE, differentiate
from hmpc_ros.policy.tracking.parameters import N_THETA, TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy

EIGHT = make('lissajous', {})
BELIEVED = TrackingParameters(
    thrust_gain=1.1, drag=(0.3, 0.2, 0.4), thrust_lag=0.06, rate_lags=(0.05, 0.04, 0.2)
)
# Where the plan is bent by one limit after the other.
LIMITS = {
    'free': TrackingLimits(),
    'inputs at their bounds': TrackingLimits(
        thrust_min=7.0, thrust_max=10.0, rates=(1.0, 1.0, 0.3)
    ),
    'too tilted and too fast': TrackingLimits(tilt=0.2, speed=2.0),
}
TIME = 5.0
ERROR = 0.1 * np.random.default_rng(3).standard_normal(12)


@pytest.fixture(scope='module')
def policy():
    return TrackingPolicy(BELIEVED)


def on_the_eight(t, error=0.0):
    states, _ = flat_states(EIGHT.sample(np.array([t])), Drag())
    return retract(states[0], np.broadcast_to(error, 12))


def converged(policy, theta=None, shown=(0.0,) * N_STATE):
    """Iterate at one point to the end; ``shown`` moves what the policy is shown."""
    theta = BELIEVED.theta if theta is None else theta
    policy.set_parameters(TrackingParameters.from_theta(theta))
    policy.reset()
    policy.observer.estimate = np.array([10.2, 1.05, 0.3, -0.2, 0.1]) + shown[12:]
    x = retract(on_the_eight(TIME, ERROR), shown[:12])
    for _ in range(60):
        solution = policy.solve(x, EIGHT, TIME)
        assert solution.ok
    return solution


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
        error = np.abs(exact - numeric).max(axis=0)
        print(limits, error / np.abs(numeric).max())
        assert np.abs(exact - numeric).max() < 1e-5 * np.abs(numeric).max()
