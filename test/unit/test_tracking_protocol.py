"""The tracking MPC as learning knows any policy: one protocol, one gradient of a flight."""

from dataclasses import replace

import numpy as np
import pytest

from hmpc_ros.configuration.tracking_learner import TrackingObjective
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.plant import presets
from hmpc_ros.plant.grey_box import GreyBox
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.protocol import MissingDerivativeError
from hmpc_ros.policy.tracking.closed_loop import NominalPlant
from hmpc_ros.policy.tracking.flying import fly
from hmpc_ros.policy.tracking.parameters import SPACE, TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy, Window
from hmpc_ros.policy.tracking.student import Teacher

PERIOD, STEPS = 0.01, 60
EIGHT = make('lissajous', {'size': (1.5, 0.75), 'rate': 1.6})
START = TrackingParameters()


class Vehicle:
    """Flies exactly as the start's model says."""

    time_step = PERIOD

    def __init__(self):
        self.plant = NominalPlant(START, PERIOD)
        self.step = self.plant.step

    def reset(self, x0, _flight=None):
        self.plant.reset(x0)

    def truth(self):
        return self.plant.state

    measure = truth


@pytest.fixture(scope='module')
def policy():
    return TrackingPolicy(START, TrackingLimits(thrust_max=30.0), PERIOD)


@pytest.fixture(scope='module')
def objective():
    end = PERIOD * STEPS
    preset = presets.load('crazyflie')
    return TrackingObjective(Teacher(preset, TrackingLimits(), START, EIGHT, 0.1, end, PERIOD))


def flown(policy, parameters, **options):
    policy.use(parameters)
    return fly(Vehicle(), policy, EIGHT, STEPS, **options)


def test_parameters_go_in_and_come_out(policy):
    other = Parameters(SPACE, 1.01 * np.maximum(START.theta, 0.01))
    policy.use(other)
    assert np.array_equal(policy.parameters.theta, other.theta)


def test_the_slopes_of_a_cost_are_those_of_finite_differences(policy, objective):
    flight = flown(policy, Parameters(SPACE, START.theta))
    by_x, by_u = objective.derivatives(flight)
    rng = np.random.default_rng(0)
    dx, du = rng.standard_normal((STEPS + 1, 6)), rng.standard_normal((STEPS, 4))
    ends = []
    for sign in (1e-4, -1e-4):
        measured = flight.measured.copy()
        measured[:, :6] += sign * dx
        moved = replace(flight, measured=measured, inputs=flight.inputs + sign * du)
        ends.append(objective.cost(moved).J)
    predicted = np.sum(by_x[:, :6] * dx) + np.sum(by_u * du)
    assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(predicted, rel=1e-6)


def test_the_gradient_of_a_flight_is_that_of_finite_differences(policy, objective):
    start = Parameters(SPACE, START.theta)
    gradient_of = FlightGradient(policy, None, objective)
    gradient = gradient_of(flown(policy, start), start)
    weights = np.arange(12)  # whatever the vehicle flies by stays: it is the start's model
    for direction in (1e-3 * START.theta * (np.arange(SPACE.size) == i) for i in weights[::4]):
        ends = [
            objective.cost(flown(policy, start.with_theta(start.theta + s * direction))).J
            for s in (1, -1)
        ]
        assert gradient @ direction == pytest.approx((ends[0] - ends[1]) / 2, rel=0.05)


def test_a_flight_with_a_failed_solve_has_no_gradient(policy, objective):
    start = Parameters(SPACE, START.theta)
    flight = replace(flown(policy, start), failures=(3,))
    with pytest.raises(MissingDerivativeError):
        FlightGradient(policy, None, objective)(flight, start)


def test_a_refit_takes_over_the_model_of_a_grey_box_and_keeps_the_weights(policy):
    box = GreyBox(0.9, (0.1, 0.2, 0.3), (0.0,) * 3, 0.04, (0.03, 0.03, 0.1), delay=0.01)
    found = policy.refit(Parameters(SPACE, START.theta), box).theta
    named = TrackingParameters.from_theta(found)
    assert named.thrust_gain[0] == 0.9
    assert named.thrust_lag[0] == pytest.approx(0.05)
    assert np.array_equal(named.position, START.position)


def test_a_fallback_is_inside_the_limits(policy):
    u = policy.fallback(None, Window(EIGHT, 5.0))
    assert (u >= policy.limits.input_min).all()
    assert (u <= policy.limits.input_max).all()
