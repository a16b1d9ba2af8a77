"""The MPC solves the QP it claims to, names its failures, and finds its generated code again."""

from dataclasses import replace

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
from reference_flight import ReferenceFlight
from reference_qp import PiqpMpc, active_set, kkt_residual, multipliers_are_unique

from hmpc_ros.plant import presets
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.odometry import euler_from_quaternion
from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.plant.rigid_body import resting_state
from hmpc_ros.plant.simulators.rotorpy_physics import RotorpyPhysics
from hmpc_ros.policy import solver_cache
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.qp_solver import SolverOptions
from hmpc_ros.policy.protocol import SolveStatus

LIMITS = Limits()
STATE = 0.3 * SPREAD * np.tile((1.0, -0.6, 0.8), 4)


@pytest.fixture
def mpc():
    model = reference_model()
    return Mpc(model, LIMITS, reference_weights(model))


def plan_of(solution):
    return np.concatenate((solution.states.ravel(), solution.inputs.ravel()))


# --- the QP ---------------------------------------------------------------------------------------


def test_inputs_states_slacks_and_multipliers_are_those_of_an_independent_solver(mpc):
    rng = np.random.default_rng(21)
    acting = np.zeros(3, dtype=int)
    compared = 0
    for trial in range(40):
        model = reference_model() if trial % 4 == 0 else random_model(rng)
        weights = random_weights(rng, model)
        mpc.set_model(model)
        mpc.set_weights(weights)
        other = PiqpMpc(model, weights, LIMITS)
        for _ in range(4):
            x0 = random_deviation(rng)
            ours, theirs = mpc.solve_deviation(x0), other.solve(x0)
            assert ours.ok, ours.status
            assert kkt_residual(model, weights, LIMITS, ours) < 1e-6
            np.testing.assert_allclose(ours.states[0], x0, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(ours.inputs, theirs.inputs, rtol=0, atol=5e-4)  # rad/s
            np.testing.assert_allclose(ours.states, theirs.states, rtol=0, atol=1e-5)
            np.testing.assert_allclose(ours.slacks, theirs.slacks, rtol=0, atol=1e-5)
            acting += [which.any() for which in active_set(model, weights, LIMITS, theirs)]
            # In the exact model a body rate on its bound and two saturated rotors say the same.
            if multipliers_are_unique(model, weights, LIMITS, theirs):
                compared += 1
                for name in ('input_multipliers', 'state_multipliers', 'slack_multipliers'):
                    np.testing.assert_allclose(
                        getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-3, err_msg=name
                    )
    assert min(acting) > 20
    assert compared > 100


def test_the_barrier_begins_where_solves_with_bounds_need_fewer_iterations():
    reference = ReferenceFlight(steps=60)
    flight = reference.fly()
    ours, plan = reference.mpc.mpc, reference.mpc.plan()
    hpipms_own = Mpc(ours.model, LIMITS, ours.weights, options=SolverOptions(qp_mu0=1.0))
    bounded = [x for x in flight.deviations[:-1] if not plan.holds(x)]
    assert len(bounded) > 10
    iterations = np.zeros(2)
    for x in bounded:
        one, other = ours.solve_deviation(x), hpipms_own.solve_deviation(x)
        assert one.ok
        assert other.ok
        np.testing.assert_allclose(one.inputs, other.inputs, rtol=0, atol=5e-4)  # rad/s
        iterations += one.iterations, other.iterations
    assert iterations[0] < 0.9 * iterations[1]


def test_the_input_is_absolute_and_never_outside_the_rotor_limits(mpc):
    rng = np.random.default_rng(22)
    for _ in range(30):
        solution = mpc.solve_deviation(3 * random_deviation(rng))
        assert solution.ok
        assert (solution.input >= LIMITS.rotor_min).all()
        assert (solution.input <= LIMITS.rotor_max).all()
        np.testing.assert_allclose(
            solution.input, mpc.model.hover_input + solution.inputs[0], rtol=0, atol=1e-5
        )


def test_every_goal_is_flown_alike_in_its_own_frame(mpc):
    goal = Goal((4.0, -1.0, 2.0), yaw=-2.0)
    turned = mpc.solve(goal.world(STATE), goal)
    straight = mpc.solve(STATE, Goal())
    np.testing.assert_allclose(turned.input, straight.input, rtol=0, atol=1e-6)


def test_a_solution_stays_what_it_was_when_the_solver_goes_on(mpc):
    first = mpc.solve_deviation(STATE)
    kept = first.flat.copy()
    mpc.solve_deviation(-STATE)
    np.testing.assert_array_equal(first.flat, kept)


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_fails_by_name_and_leaves_no_trace(mpc, bad):
    model = mpc.model
    fresh = Mpc(model, LIMITS, mpc.weights).solve_deviation(STATE)
    for component in (0, 5, 11):
        x = STATE.copy()
        x[component] = bad
        failed = mpc.solve(x, Goal())
        assert failed.status is SolveStatus.INVALID_STATE
        assert not failed.ok
        assert np.isnan(failed.input).all()
        again = mpc.solve(STATE, Goal())
        assert again.ok
        np.testing.assert_allclose(plan_of(again), plan_of(fresh), rtol=0, atol=1e-6)


def test_after_nan_inside_acados_itself_the_next_solve_is_that_of_a_fresh_solver(mpc):
    """Past the check of the state: what HPIPM does with NaN must be noticed, and not stay."""
    fresh = mpc.solve_deviation(STATE)
    status, qp_status, _, _, flat = mpc._qp.solve(np.full(12, np.nan))
    assert status or qp_status or not np.isfinite(flat).all()
    mpc.reset()
    again = mpc.solve_deviation(STATE)
    assert again.ok
    np.testing.assert_allclose(plan_of(again), plan_of(fresh), rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [1e5, 1e12, 1e30, 1e150, 1e300])
def test_a_state_beyond_all_arithmetic_fails_by_name_or_is_solved(mpc, size):
    fresh = mpc.solve_deviation(STATE)
    for absurd in (size, -size):  # acados v0.4.0 lets go of each side of x_0 by itself
        solution = mpc.solve_deviation(np.full(12, absurd))
        assert solution.ok == (solution.status is SolveStatus.SUCCESS)
        if solution.ok:
            assert np.isfinite(solution.flat).all()
        else:
            assert np.isnan(solution.input).all()
    again = mpc.solve_deviation(STATE)
    assert again.ok
    np.testing.assert_allclose(plan_of(again), plan_of(fresh), rtol=0, atol=1e-6)


def test_a_nan_that_acados_calls_success_is_caught_and_its_memory_reset(mpc, monkeypatch):
    resets = []
    monkeypatch.setattr(mpc._qp, 'reset', lambda: resets.append(1))
    broken = mpc.solve_deviation(STATE).flat.copy()
    broken[5] = np.nan
    monkeypatch.setattr(mpc._qp, 'solve', lambda _x0: (0, 0, 4, 1e-4, broken))
    solution = mpc.solve_deviation(STATE)
    assert solution.status is SolveStatus.NOT_FINITE
    assert np.isnan(solution.input).all()
    assert resets == [1]


def test_running_out_of_iterations_is_a_failure_and_not_a_solution(mpc):
    model = mpc.model
    hasty = Mpc(model, LIMITS, mpc.weights, options=SolverOptions(qp_max_iterations=3))
    solution = hasty.solve_deviation(SPREAD)
    assert mpc.solve_deviation(SPREAD).ok
    assert solution.status in (SolveStatus.NOT_CONVERGED, SolveStatus.SOLVER_ERROR)
    assert np.isnan(solution.input).all()


# --- data of the solver, never a rebuild ----------------------------------------------------------


def test_weights_model_and_limits_change_without_a_rebuild(mpc, monkeypatch):
    def no_build(*arguments):
        raise AssertionError('the solver was built again')

    monkeypatch.setattr(solver_cache, '_build', no_build)
    rng = np.random.default_rng(23)
    model, limits = mpc.model, mpc.limits
    weights = random_weights(rng, model)
    tight = Limits(rotor_max=625.0, velocity=(0.5, 0.5, 0.5), rates=(0.2, 0.2, 0.2))
    heavier = LinearModel(
        model.A, 0.9 * model.B, 0.01 * SPREAD, model.time_step, model.hover_input + 2.0
    )
    before = mpc.solve_deviation(STATE)
    for change, expected in (
        (lambda: mpc.set_weights(weights), (model, weights, limits)),
        (lambda: mpc.set_limits(tight), (model, weights, tight)),
        (lambda: mpc.set_model(heavier), (heavier, weights, tight)),
    ):
        change()
        solution = mpc.solve_deviation(STATE)
        assert solution.ok
        assert np.abs(solution.inputs - before.inputs).max() > 1e-3
        other = PiqpMpc(*expected).solve(STATE)
        np.testing.assert_allclose(solution.inputs, other.inputs, rtol=0, atol=1e-3)
        np.testing.assert_allclose(
            Mpc(*(expected[i] for i in (0, 2, 1))).solve_deviation(STATE).inputs,
            solution.inputs,
            rtol=0,
            atol=1e-4,
        )
        before = solution


def test_two_solvers_in_one_process_do_not_share_data(mpc):
    alone = mpc.solve_deviation(STATE)
    other = Mpc(mpc.model, Limits(rotor_max=700.0), mpc.weights)
    other.set_weights(random_weights(np.random.default_rng(24), mpc.model))
    other.solve_deviation(-STATE)
    np.testing.assert_allclose(plan_of(mpc.solve_deviation(STATE)), plan_of(alone), atol=1e-6)


def test_limits_in_which_the_vehicle_cannot_hover_are_refused_and_the_old_ones_stay(mpc):
    before = mpc.solve_deviation(STATE)
    with pytest.raises(ValueError, match='cannot hover'):
        mpc.set_limits(Limits(rotor_max=600.0))
    model = mpc.model
    with pytest.raises(ValueError, match='cannot hover'):
        mpc.set_model(
            LinearModel(model.A, model.B, model.c, model.time_step, model.hover_input + 50)
        )
    assert mpc.limits is LIMITS
    assert mpc.model is model
    np.testing.assert_allclose(plan_of(mpc.solve_deviation(STATE)), plan_of(before), atol=1e-6)


def test_rotorpys_vehicle_hovers_with_the_linear_mpc_of_an_x_frame():
    preset = presets.load('hummingbird')
    assumed = QuadcopterParameters(
        mass=preset.airframe.mass,
        arm_length=float(np.hypot(*preset.airframe.rotor_positions[0][:2])),
        thrust_coefficient=preset.airframe.thrust_coefficient,
        drag_torque_coefficient=preset.airframe.torque_coefficient,
        inertia=preset.airframe.inertia,
        frame='x',
        rotor_directions=preset.airframe.rotor_directions,
    )
    model = Quadcopter(assumed).linearise()
    limits = replace(LIMITS, rotor_max=preset.airframe.rotor_speed_max)
    mpc = Mpc(model, limits, reference_weights(model))
    real = RotorpyPhysics(preset.constants, 0.002)
    goal = Goal((0.5, -0.4, 1.0), 0.6)
    real.reset(resting_state(), assumed.hover_speed)
    for _ in range(80):
        x = real.state()
        w, *vector = x[6:10]
        angles = euler_from_quaternion(*vector, w)
        speeds = mpc.solve(np.array([*x[:6], *angles, *x[10:]]), goal).input
        for _ in range(50):
            real.advance(speeds, np.zeros(3), 1.0)
    away = np.abs(real.state()[:3] - goal.position)
    assert away[:2].max() < 0.02
    assert away[2] < 0.3  # RotorPy's rotors carry less, and this MPC has no integral action
    w, *vector = real.state()[6:10]
    # Its yaw is slow under these weights: on its way, and to the right side.
    assert 0.2 < euler_from_quaternion(*vector, w)[2] < goal.yaw
