import numpy as np
import pytest

from hmpc_ros.plant import presets
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.rigid_body import resting_state
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy


@pytest.fixture(scope='module')
def policy():
    preset = presets.load('reference')
    limits = preset.limits
    return TrackingPolicy(
        TrackingParameters(
            thrust_gain=preset.model.thrust_gain,
            drag=preset.model.drag,
            thrust_lag=preset.model.thrust_lag,
            rate_lags=preset.model.rate_lags,
        ),
        TrackingLimits(limits.a_min, limits.a_max, limits.rates_max),
    )


def test_the_eight_is_followed_by_a_vehicle_that_is_heavier_than_believed(policy):
    eight = make('lissajous', {})
    simulator = FlightSimulator(
        presets.load('reference'), 'model', 0.01, Conditions(mass_scale=1.2)
    )
    begin = eight.sample(np.zeros(1))
    simulator.reset(resting_state(begin.position[0], float(begin.yaw[0])))
    policy.reset()
    errors = []
    for t in 0.01 * np.arange(800):
        solution = policy.solve(simulator.measure(), eight, t)
        assert solution.ok
        errors.append(simulator.truth()[:3] - eight.sample(np.array([t])).position[0])
        simulator.step(solution.input)
    rmse = np.sqrt(np.mean(np.sum(np.square(errors[300:]), axis=1)))
    assert rmse < 0.05  # without the observer the weight alone pulls it far below


def test_a_state_that_is_not_finite_is_not_solved_and_the_fallback_stays_in_bounds(policy):
    policy.reset()
    state = np.full(13, np.nan)
    solution = policy.solve(state, make('hover', {}), 0.0)
    assert not solution.ok
    u = policy.fallback(state, 0.0)
    limits = presets.load('reference').limits
    assert np.all(np.isfinite(u))
    assert limits.a_min <= u[0] <= limits.a_max
    assert np.all(np.abs(u[1:]) <= limits.rates_max)
