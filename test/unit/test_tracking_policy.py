import numpy as np
import pytest

from hmpc_ros.configuration import build_tracking, files
from hmpc_ros.plant import presets
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.rigid_body import resting_state, rotation_matrix
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.policy.tracking.flying import fly
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy, Window
from hmpc_ros.share import config_dir


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
        solution = policy.solve(simulator.measure(), Window(eight, t))
        assert solution.ok
        errors.append(simulator.truth()[:3] - eight.sample(np.array([t])).position[0])
        simulator.step(solution.input)
    rmse = np.sqrt(np.mean(np.sum(np.square(errors[300:]), axis=1)))
    assert rmse < 0.05  # without the observer the weight alone pulls it far below


def test_a_state_that_is_not_finite_is_not_solved_and_the_fallback_stays_in_bounds(policy):
    policy.reset()
    state = np.full(13, np.nan)
    solution = policy.solve(state, Window(make('hover', {}), 0.0))
    assert not solution.ok
    u = policy.fallback(state, Window(make('hover', {}), 0.0))
    limits = presets.load('reference').limits
    assert np.all(np.isfinite(u))
    assert limits.a_min <= u[0] <= limits.a_max
    assert np.all(np.abs(u[1:]) <= limits.rates_max)


@pytest.mark.parametrize('away', [(2, 0, 0), (0, -10, 3), (100, 100, -50), (0, 0, -5)])
def test_a_jump_of_the_goal_is_flown_upright_without_overshoot(policy, away):
    goal = np.array(away, dtype=float)
    simulator = FlightSimulator(presets.load('reference'), 'model', 0.01)
    hover = make('hover', {'centre': goal})
    distance = float(np.linalg.norm(goal))
    steps = int(400 + 30 * distance)
    flight = fly(simulator, policy, hover, steps, start=resting_state())
    assert not flight.failures
    upright = rotation_matrix(flight.states[:, 6:10])[:, 2, 2]
    assert upright.min() > np.cos(policy.limits.tilt + 0.05)  # the limit is soft
    assert (flight.states[:, :3] @ goal).max() / distance < 1.05 * distance
    np.testing.assert_allclose(flight.states[-1, :3], goal, atol=0.02)


def test_a_reference_within_reach_is_tracked_as_it_is(policy):
    policy.reset()
    state = resting_state(np.array([1.0, 1.0, 1.0]))
    near = policy.solve(state, Window(make('hover', {'centre': (2.0, 1.0, 0.0)}), 0.0))
    np.testing.assert_array_equal(near.parameters[:, :3], [[2.0, 1.0, 0.0]] * 21)
    policy.reset()
    far = policy.solve(state, Window(make('hover', {'centre': (31.0, 41.0, -8.0)}), 0.0))
    nearer = [1.0 + 0.6 * 1.5, 1.0 + 0.8 * 1.5, -0.5]
    np.testing.assert_allclose(far.parameters[:, :3], [nearer] * 21, atol=1e-12)


class Blinded:
    """A simulator whose sensors give no number for a while."""

    def __init__(self, simulator, steps):
        self.simulator, self.steps, self.time_step = simulator, steps, simulator.time_step
        self.step_now = 0

    def reset(self, x0, flight=None):
        self.step_now = 0
        self.simulator.reset(x0, flight)

    def truth(self):
        return self.simulator.truth()

    def measure(self):
        blind = self.step_now in self.steps
        return np.full(13, np.nan) if blind else self.simulator.measure()

    def step(self, u):
        self.step_now += 1
        self.simulator.step(u)


def test_states_that_are_no_numbers_are_flown_through_within_the_limits(policy):
    steps = range(400, 440)  # at full speed on the eight
    simulator = Blinded(FlightSimulator(presets.load('reference'), 'model', 0.01), steps)
    flight = fly(simulator, policy, make('lissajous', {}), 700)
    assert flight.failures == flight.fallbacks == tuple(steps)
    limits = policy.limits
    assert np.all((flight.inputs >= limits.input_min) & (flight.inputs <= limits.input_max))
    # A quarter of a second of the last plan, then hover thrust without turning; then back.
    assert np.abs(flight.inputs[423, 1:]).max() > 0.1
    np.testing.assert_array_equal(flight.inputs[424:440, 1:], 0.0)
    assert np.linalg.norm(flight.errors, axis=1).max() < 1.5
    assert np.linalg.norm(flight.errors[-50:], axis=1).max() < 0.05
    assert np.isfinite(flight.states).all()


def test_at_the_tilt_limit_commands_do_not_swing_at_the_default_slack_cost():
    configuration = files.load(
        config_dir() / 'tracking.yaml',
        [
            'simulator.backend=model',
            'simulator.preset=hummingbird',
            'simulator.wind.kind=constant',
            'simulator.wind.mean=[0, 10, 0]',
            'controller.reference.kind=hover',
            'controller.tracking.limits.tilt=0.35',
            'controller.tracking.tilt_slack=50',
        ],
    )
    reference, _ = build_tracking.reference(configuration)
    simulator = build_tracking.simulator(configuration['simulator'])
    flight = fly(simulator, build_tracking.policy(configuration), reference, 300)
    tilt = np.arccos(1 - 2 * (flight.states[:, 7] ** 2 + flight.states[:, 8] ** 2))
    assert tilt[100:].min() > 0.3  # the wind holds it at the limit
    change = np.diff(flight.inputs, axis=0)
    swings = (change[1:] * change[:-1] < 0) & (np.abs(change[1:]) > 0.05)
    assert swings.any(axis=1).sum() < 10
    with pytest.raises(ValueError, match='tilt_slack'):
        TrackingParameters(tilt_slack=np.array([100.0]))
