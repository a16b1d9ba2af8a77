from dataclasses import replace

import numpy as np
import pytest

from hmpc_ros.plant import presets
from hmpc_ros.plant.grey_box import GreyBox
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.rigid_body import retract
from hmpc_ros.plant.simulators.grey_box_simulator import GreyBoxSimulator
from hmpc_ros.policy.tracking import flying, tuning
from hmpc_ros.policy.tracking.parameters import BLOCKS, TrackingLimits, TrackingParameters, refitted
from hmpc_ros.policy.tracking.policy import TrackingPolicy
from hmpc_ros.policy.tracking.rehearsal import Scene, Tracking, rehearse
from hmpc_ros.policy.tracking.student import Teacher, flown_cost, noise

BOX = GreyBox(
    0.85, (0.3, 0.2, 0.2), (0.3, 0.2, 0.1), 0.07, (0.1, 0.09, 0.16), (0.2, 0.2, 0.1), 0.013
)
EIGHT = make('lissajous', {})


@pytest.fixture(scope='module')
def preset():
    return presets.load('reference')


@pytest.fixture
def policy(preset):
    limits, model = preset.limits, preset.model
    parameters = TrackingParameters(
        thrust_gain=[1.0], drag=model.drag, thrust_lag=0.07, rate_lags=model.rate_lags
    )
    return TrackingPolicy(
        parameters, TrackingLimits(limits.a_min, limits.a_max, limits.rates_max)
    )


@pytest.mark.parametrize(
    'name',
    ['position', 'velocity', 'rate_commands', 'thrust', 'thrust_lag', 'rate_lags', 'drag',
     'thrust_observer', 'force_observer'],
)  # fmt: skip
def test_the_gradient_of_a_rehearsal_is_that_of_flying_it_again(name, policy, preset):
    scene = Scene(BOX, EIGHT, 2.5, 120, noise=np.repeat([2e-3, 5e-3, 1e-3, 5e-3], 3))
    found = rehearse(scene, policy, preset, Tracking())
    theta, costs = policy.named.theta, []
    entry = BLOCKS[name].start
    step = 1e-3 * theta[entry]
    for change in (step, -step):
        moved = theta.copy()
        moved[entry] += change
        policy.set_parameters(TrackingParameters.from_theta(moved))
        costs.append(rehearse(scene, policy, preset, Tracking(), False).cost)
    slope = (costs[0] - costs[1]) / (2 * step)
    # Real-time iterates: the derivative is that of converged solves.
    assert 2 * found.gradient[entry] == pytest.approx(slope, rel=0.05)


def test_a_rehearsal_that_does_not_fly_costs_infinity(policy, preset):
    falling = replace(BOX, thrust_gain=0.2, disturbance=(8.0, 8.0, -8.0))
    scene = Scene(falling, EIGHT, 2.5, 300)
    policy.set_limits(replace(policy.limits, thrust_max=0.5))
    far = rehearse(scene, policy, preset, Tracking(), False)
    assert far.cost > 1.0  # it falls: metres, not millimetres


def test_tuning_lowers_the_cost_within_its_region(policy, preset):
    scene = Scene(BOX, EIGHT, 2.5, 150)
    found = refitted(policy.named, BOX)

    def over(theta):
        policy.set_parameters(TrackingParameters.from_theta(theta))
        return [rehearse(scene, policy, preset, Tracking())]

    tuned = tuning.tune(found.theta, over, tuning.Settings(rehearsals=4, radius=0.5))
    assert tuned.after < 0.5 * tuned.before
    moved = tuned.theta > 0
    change = np.abs(np.log(tuned.theta[moved] / found.theta[moved]))
    assert change.max() <= 0.5 + 1e-9
    # What is identified is not tuned.
    for name in ('thrust_gain', 'drag', 'tilt_slack'):
        assert np.array_equal(tuned.theta[BLOCKS[name]], found.theta[BLOCKS[name]])


def test_a_switched_off_observer_stays_off(policy, preset):
    off = replace(policy.named, thrust_observer=[0.0], force_observer=[0.0])
    scene = Scene(BOX, EIGHT, 2.5, 80)

    def over(theta):
        policy.set_parameters(TrackingParameters.from_theta(theta))
        return [rehearse(scene, policy, preset, Tracking())]

    tuned = tuning.tune(off.theta, over, tuning.Settings(rehearsals=2))
    assert tuned.theta[BLOCKS['thrust_observer']] == 0
    assert tuned.theta[BLOCKS['force_observer']] == 0


def test_noise_is_told_from_motion():
    t = 0.01 * np.arange(600)
    states = np.zeros((600, 13))
    states[:, 6] = 1
    states[:, 0], states[:, 11] = np.sin(2 * t), 3 * np.sin(4 * t)
    states = retract(states, 0.3 * np.sin(3 * t)[:, None] * np.eye(12)[7])
    assert noise(states).max() < 1e-3
    stds = np.repeat([0.01, 0.02, 0.0087, 0.05], 3)
    noisy = retract(states, stds * np.random.default_rng(0).standard_normal((600, 12)))
    assert noise(noisy) == pytest.approx(stds, rel=0.2)


def test_the_cost_that_is_measured_is_the_one_without_noise(policy, preset):
    simulator = GreyBoxSimulator(BOX, preset)
    truth = flying.fly(simulator, policy, EIGHT, 600, flight_number=0, keep_solutions=False)
    errors = 0.01 * np.random.default_rng(1).standard_normal((601, 12))
    errors[:, 3:] = 0
    noisy = replace(truth, measured=retract(truth.states, errors))
    costs = [flown_cost(flight, Tracking(), BOX, 3.0, 6.0) for flight in (truth, noisy)]
    assert costs[1] == pytest.approx(costs[0], abs=1.5e-5)  # noise alone would add 3e-4


def test_weights_have_to_hold_for_vehicles_that_are_slower_than_found(policy, preset):
    teacher = Teacher(preset, policy.limits, policy.named, EIGHT, 3.0, 6.0)
    slow = teacher.slower(BOX)
    assert np.all(np.array(slow.rate_lags) > BOX.rate_lags)
    assert slow.delay > BOX.delay
    slowest = GreyBox(rate_lags=(0.5, 0.5, 0.5), rate_shapes=(1.0, 1.0, 1.0), delay=0.15)
    assert teacher.slower(slowest) == slowest  # at the end of the range
