"""The offline shortcut: where the unconstrained plan keeps every bound, it is the MPC's solution.

Largest difference from acados on 20 random models, weights and rays through the goal, as printed by
`pytest test/unit/test_unconstrained.py -s`, halfway to the margin, at nine tenths of it, and on it:

    without drift: planned inputs [rad/s] 8e-08, 3e-07, 4e-06; state gain 9e-07, 2e-05, 1e-02
    with a drift:  planned inputs [rad/s] 5e-08, 3e-07, 5e-06; state gain 6e-07, 2e-06, 2e-02

(Entries of the gain are about 100. On the margin acados' barrier still bends the gain a little.)
"""

import numpy as np
import pytest
from random_flight_states import (
    SPREAD,
    random_deviation,
    random_model,
    random_weights,
    reference_model,
    reference_weights,
)
from reference_qp import PiqpMpc, kkt_residual

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.policy.linear import sensitivity
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.unconstrained import MARGIN, OfflineMpc, UnconstrainedPlan
from hmpc_ros.policy.protocol import SolveStatus

LIMITS = Limits()


@pytest.fixture(scope='module')
def mpc():
    model = reference_model()
    return Mpc(model, LIMITS, reference_weights(model))


def use(mpc, model, weights, limits=LIMITS):
    mpc.set_limits(limits)
    mpc.set_model(model)
    mpc.set_weights(weights)


def reach(plan, ray):
    """The largest multiple of a state along a ray from which the plan still holds."""
    low, high = 0.0, 1.0
    while plan.holds(high * ray):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if plan.holds(middle * ray) else (low, middle)
    return low


def cases(drift, count=20, seed=7):
    """Random models with a drift, and weights, whose plan holds at the goal itself."""
    rng = np.random.default_rng(seed)
    while count:
        model = random_model(rng, drift)
        weights = random_weights(rng, model)
        if UnconstrainedPlan(model, weights, LIMITS, 12).holds(np.zeros(12)):
            count -= 1
            yield rng, model, weights


@pytest.mark.parametrize('drift', [0.0, 0.003])
def test_the_plan_is_acados_solution_inside_and_right_up_to_the_margin(mpc, drift):
    worst = {0.5: 0.0, 0.9: 0.0, 1.0: 0.0}
    gains = dict.fromkeys(worst, 0.0)
    for rng, model, weights in cases(drift):
        use(mpc, model, weights)
        offline = OfflineMpc(mpc)
        ray = SPREAD * rng.standard_normal(12)
        limit = reach(offline.plan(), ray)
        for part in worst:
            deviation = part * limit * ray
            planned, solved = offline.solve_deviation(deviation), mpc.solve_deviation(deviation)
            assert planned.iterations == 0
            assert solved.iterations > 0
            np.testing.assert_allclose(planned.inputs, solved.inputs, rtol=0, atol=1e-4)
            np.testing.assert_allclose(planned.states, solved.states, rtol=0, atol=1e-6)
            np.testing.assert_allclose(planned.input, solved.input, rtol=0, atol=1e-4)
            assert kkt_residual(model, weights, LIMITS, planned) < 1e-9
            worst[part] = max(worst[part], np.abs(planned.inputs - solved.inputs).max())
            derivatives = [
                sensitivity.factorise(model, weights, LIMITS, [s]).state_gain
                for s in (planned, solved)
            ]
            gains[part] = max(gains[part], np.abs(np.subtract(*derivatives)).max())
    shown = [', '.join(f'{value:.0e}' for value in each.values()) for each in (worst, gains)]
    print(f'\ndrift {drift}: planned inputs [rad/s] {shown[0]}; state gain {shown[1]}')


@pytest.mark.parametrize('drift', [0.0, 0.003])
def test_without_margin_the_plan_is_the_solution_on_the_bound_itself_and_not_beyond(drift):
    for rng, model, weights in cases(drift, count=10, seed=8):
        plan = UnconstrainedPlan(model, weights, LIMITS, 12, margin=0.0)
        ray = SPREAD * rng.standard_normal(12)
        limit = reach(plan, ray)
        exact = PiqpMpc(model, weights, LIMITS)

        def difference(deviation, plan=plan, exact=exact):
            solution = exact.solve(deviation)
            expected = np.concatenate((solution.states.ravel(), solution.inputs.ravel()))
            return np.abs(plan.plan(deviation) - expected).max()

        assert difference(limit * ray) < 1e-3
        beyond = 1.02 * limit * ray
        assert not plan.holds(beyond)
        assert difference(beyond) > 10 * difference(limit * ray)


def test_a_plan_that_enters_the_margin_is_left_to_acados(mpc):
    for rng, model, weights in cases(0.003, count=5, seed=9):
        use(mpc, model, weights)
        offline = OfflineMpc(mpc)
        ray = SPREAD * rng.standard_normal(12)
        edge = reach(UnconstrainedPlan(model, weights, LIMITS, 12, margin=0.0), ray)
        solution = offline.solve_deviation(edge * (1 - 0.1 * MARGIN) * ray)
        assert (offline.planned, offline.solved) == (0, 1)
        assert solution.iterations > 0


def test_a_plan_that_breaks_a_bound_only_at_the_end_of_the_horizon_does_not_hold(mpc):
    """u_0 alone would look fine: the bound must be kept over the whole horizon."""
    weights = reference_weights(reference_model())
    plan = UnconstrainedPlan(reference_model(), weights, LIMITS, 12)
    exact = reference_model()
    drifting = LinearModel(
        exact.A, exact.B, 0.2 * np.eye(12)[3], exact.time_step, exact.hover_input
    )
    late = UnconstrainedPlan(drifting, weights, LIMITS, 12)
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(3000):
        deviation = 0.15 * random_deviation(rng)
        for each in (plan, late):
            states = each.plan(deviation)[: 13 * 12].reshape(13, 12)
            inputs = each.plan(deviation)[13 * 12 :].reshape(12, 4) + exact.hover_input
            kept_states = np.abs(states[1:, 3:]) <= LIMITS.state_max
            kept_inputs = (inputs >= LIMITS.rotor_min) & (inputs <= LIMITS.rotor_max)
            first = kept_states[0].all() and kept_inputs[0].all()
            everywhere = kept_states.all() and kept_inputs.all()
            found += first and not everywhere
            if not everywhere:
                assert not each.holds(deviation)
    assert found > 20


def test_the_shortcut_flies_the_reference_flight_like_acados_with_24_of_200_solves(mpc):
    quadcopter = Quadcopter(QuadcopterParameters())
    model = quadcopter.linearise()
    use(mpc, model, reference_weights(model))
    goal = Goal((-6.0, -3.5, 0.0))

    def fly(policy):
        x, states, solutions = np.zeros(12), [], []
        for _ in range(200):
            solutions.append(policy.solve(x, goal))
            x = quadcopter.step(x, solutions[-1].input)
            states.append(x)
        return np.array(states), solutions

    fast, slow = OfflineMpc(mpc), OfflineMpc(mpc, shortcut=False)
    states, solutions = fly(fast)
    expected, all_solved = fly(slow)
    assert (fast.planned, fast.solved) == (176, 24)
    assert (slow.planned, slow.solved) == (0, 200)
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-7)

    seeds = np.random.default_rng(1).standard_normal((200, 4))
    quick, full = fast.differentiate(solutions), slow.differentiate(all_solved)
    assert (quick.bounded_steps, full.bounded_steps) == (24, 200)
    gain = full.state_gain
    np.testing.assert_allclose(quick.state_gain, gain, rtol=0, atol=1e-6 * np.abs(gain).max())
    gradient = full.vjp(seeds)
    np.testing.assert_allclose(
        quick.vjp(seeds), gradient, rtol=0, atol=1e-6 * np.abs(gradient).max()
    )


def test_new_weights_model_or_limits_make_a_new_plan(mpc):
    model = reference_model()
    use(mpc, model, reference_weights(model))
    offline = OfflineMpc(mpc)
    deviation = 0.01 * SPREAD
    rng = np.random.default_rng(11)
    offline.solve_deviation(deviation)
    changes = (
        lambda: mpc.set_weights(random_weights(rng, model)),
        lambda: mpc.set_model(random_model(rng, drift=1e-3)),
        lambda: mpc.set_limits(Limits(rotor_max=650.0)),
    )
    for change in changes:
        change()
        planned = offline.solve_deviation(deviation)
        assert planned.iterations == 0
        np.testing.assert_allclose(planned.inputs, mpc.solve_deviation(deviation).inputs, atol=1e-5)
    mpc.set_limits(Limits(rates=(1e-4,) * 3))
    assert offline.solve_deviation(deviation).iterations > 0
    mpc.set_limits(LIMITS)


def test_the_goal_frame_is_the_one_of_the_mpc(mpc):
    model = reference_model()
    use(mpc, model, reference_weights(model))
    goal = Goal((1.0, -2.0, 3.0), yaw=2.5)
    x = goal.world(0.05 * SPREAD)
    planned, solved = OfflineMpc(mpc).solve(x, goal), mpc.solve(x, goal)
    assert planned.iterations == 0
    np.testing.assert_allclose(planned.flat[: 13 * 12], solved.flat[: 13 * 12], atol=1e-6)


def test_a_state_that_is_not_finite_fails_by_name(mpc):
    offline = OfflineMpc(mpc)
    for bad in (np.nan, np.inf, -np.inf):
        solution = offline.solve(np.full(12, bad), Goal())
        assert solution.status is SolveStatus.INVALID_STATE
        assert not solution.ok
    assert (offline.planned, offline.solved) == (0, 3)
