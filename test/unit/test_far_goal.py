"""A goal too far for the linear model is flown to along a bounded way, and differentiated so."""

import numpy as np
import pytest

pytest.importorskip('casadi')

from hmpc_ros.configuration import build
from hmpc_ros.configuration.tables import CONTROLLER, SIMULATOR
from hmpc_ros.policy.linear.flying import rollout
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.unconstrained import OfflineMpc

FLOWN = {name: parameter.default for name, parameter in CONTROLLER.items()}
SIMULATED = {name: parameter.default for name, parameter in SIMULATOR.items()}
FAR = (60.0, 30.0, 5.0)


def fly(goal, steps, **changes):
    mpc = OfflineMpc(build.mpc(FLOWN | changes))
    return rollout(build.vehicle(SIMULATED), mpc, Goal(goal, 0.3), np.zeros(12), steps)


def test_a_far_goal_is_reached_upright_and_without_the_bound_it_is_not():
    flight = fly(FAR, 400)
    assert flight.complete
    assert not flight.failed_steps
    assert np.abs(flight.states[:, 6:8]).max() < 0.5
    assert np.abs(flight.states[:, 3:6]).max() < 2.5
    assert np.linalg.norm(flight.deviations[-1][:3]) < 0.5
    assert not fly(FAR, 400, **{'limits.position_deviation': 100.0}).complete


def test_what_is_shown_keeps_its_direction_and_near_goals_are_left_alone():
    limits = Limits(position_deviation=7.0)
    near = np.arange(12.0) - 3.0  # 3.7 m
    assert limits.shown(near) == (near, None)
    far = near.copy()
    far[:3] *= 1000.0
    shown, unseen = limits.shown(far)
    np.testing.assert_allclose(np.linalg.norm(shown[:3]), 7.0)
    np.testing.assert_allclose(shown[:3] + unseen, far[:3])
    np.testing.assert_allclose(shown[:3] / 7.0, far[:3] / np.linalg.norm(far[:3]))
    np.testing.assert_array_equal(shown[3:], far[3:])
    spoilt = far.copy()
    spoilt[0] = np.nan
    assert limits.shown(spoilt)[1] is None
    assert not build.mpc(FLOWN).solve_deviation(spoilt).ok


@pytest.mark.parametrize('shortcut', [False, True])
@pytest.mark.parametrize('position', [(40.0, 9.0, -4.0), (4.0, 0.9, -0.4)])
def test_the_derivative_is_that_of_the_goal_shown(shortcut, position):
    # Bounds that no plan meets, so that finite differences meet no kink.
    wide = {f'limits.{name}': [99.0] * 3 for name in ('velocity', 'attitude', 'rates')}
    mpc = OfflineMpc(build.mpc(FLOWN | wide | {'policy.r': [3.0] * 4}), shortcut)
    state = np.zeros(12)
    state[:3] = position
    gain = mpc.differentiate([mpc.solve_deviation(state)]).state_gain[0]
    h = 1e-3
    for i in range(12):
        push = np.zeros(12)
        push[i] = h
        ahead, behind = (mpc.solve_deviation(state + s * push).input for s in (1, -1))
        np.testing.assert_allclose(gain[:, i], (ahead - behind) / (2 * h), atol=1e-4)


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        ({'policy.p': [1e155] * 78}, 'policy.p is too large to be solved with'),
        ({'policy.q': [101.0] * 12}, 'policy.q is too large to be solved with'),
        ({'policy.q': [99.0] * 12, 'policy.r': [99.0] * 4}, 'policy.p is too large'),  # its own
        ({'policy.r': [1e155] * 4}, 'policy.r is too large to be solved with'),
        ({'policy.r': [0.0] * 4}, 'policy.r must not be all 0'),
    ],
)
def test_weights_that_cannot_be_solved_with_are_refused_in_words(values, reason):
    model = build.model(FLOWN)
    with pytest.raises(ValueError, match=reason):
        build.weights(FLOWN | values, model)


@pytest.mark.parametrize('large', ['q', 'qrp', 'p'])
def test_what_is_just_not_too_large_is_solved_with(large):
    model = build.model(FLOWN)
    start = vars(build.weights(FLOWN, model))
    mpc = build.mpc(FLOWN)
    mpc.set_weights(
        build.weights(FLOWN | {f'policy.{name}': list(start[name] * 100) for name in large}, model)
    )
    spread = np.repeat((4.0, 1.0, 0.3, 0.5), 3)  # m, m/s, rad, rad/s
    for state in np.random.default_rng(0).standard_normal((30, 12)) * spread:
        assert mpc.solve_deviation(state).ok


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('goal.position', [1e4, 0.0, 0.0]),
        ('goal.yaw', 1e5),
        ('limits.velocity', [1.7e308] * 3),
        ('limits.position_deviation', 1e4),
    ],
)
def test_goals_and_limits_beyond_all_measure_are_refused(name, value):
    with pytest.raises(ValueError, match=f'{name} must be at most'):
        CONTROLLER[name].validate(value)
