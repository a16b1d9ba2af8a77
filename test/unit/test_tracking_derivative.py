"""The tracking policy's derivative against finite differences and a dense solve."""

import dataclasses

import casadi as ca
import numpy as np
import pytest

from hmpc_ros.learning.costate import loop_gradient
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.rigid_body import retract
from hmpc_ros.policy.acados import acados, quiet
from hmpc_ros.policy.protocol import MissingDerivativeError
from hmpc_ros.policy.tracking import model
from hmpc_ros.policy.tracking.closed_loop import NominalPlant, augmented
from hmpc_ros.policy.tracking.derivative import differentiate
from hmpc_ros.policy.tracking.derivative_code import N_STATE, tangent
from hmpc_ros.policy.tracking.parameters import (
    BLOCKS,
    N_THETA,
    TrackingLimits,
    TrackingParameters,
)
from hmpc_ros.policy.tracking.policy import TrackingPolicy, Window

EIGHT = make('lissajous', {})
BELIEVED = TrackingParameters(
    position=(8.0, 7.0, 9.0), velocity=(1.5, 1.4, 1.6), attitude=(1.0, 0.9, 1.1),
    rates=(0.1, 0.11, 0.09), thrust=0.1, rate_commands=(0.2, 0.21, 0.19), terminal=3.0,
    tilt_slack=3.0, speed_slack=1.0, thrust_gain=1.1, drag=(0.3, 0.2, 0.4), thrust_lag=0.06,
    rate_lags=(0.05, 0.04, 0.2), thrust_observer=3.0, force_observer=2.0,
)  # fmt: skip
# Where nothing, the hard limits or the soft ones bend the plan.
LIMITS = {
    'free': TrackingLimits(),
    'thrust at its bound': TrackingLimits(thrust_min=7.0, thrust_max=11.5, rates=(2.0, 2.0, 0.6)),
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
        solution = policy.solve(x, Window(EIGHT, TIME))
        assert solution.ok
        change = np.abs(solution.states - last).max()
        if change < 1e-10:
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
        lambda shown: converged(policy, shown=shown).inputs[0], N_STATE, np.full(N_STATE, 6e-4)
    )
    theta = BELIEVED.theta
    steps = 6e-4 * np.maximum(theta, 0.1)
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


def dense_answer(solution, dp, limits):
    """Solve the differentiated KKT system of the whole plan at once.

    Args:
        solution: a converged solve.
        dp: (N+1, NP, n) derivative of the stages' parameters by n numbers.
        limits: those it was solved with.

    Returns:
        du_0/d(x_0, numbers) (4, 14 + n).
    """
    n, nx, nu, m = len(solution.inputs), model.NX, model.NU, dp.shape[-1]
    x, u, p = (ca.SX.sym(name, size) for name, size in (('x', nx), ('u', nu), ('p', model.NP)))
    pi, s = ca.SX.sym('pi', nx), model.Stage(p)
    f, y = model.step(x, u, s), ca.vertcat(x, u, p)
    costs = [ca.sumsqr(r) / 2 for r in (model.residual(x, u, s), model.state_residual(x, s))]
    stage = ca.Function('s', [x, u, pi, p], [
        ca.hessian(costs[0] + ca.dot(pi, f), y)[0], ca.jacobian(f, y), ca.hessian(costs[1], y)[0]
    ])  # fmt: skip

    # Unknowns: x_0 u_0 x_1 ... x_N, then multipliers of x_0 = given and of x_k+1 = f.
    size = n * (nx + nu) + nx
    H, G = np.zeros((size, size)), np.zeros((nx * (n + 1), size))
    right = np.zeros((size + len(G), nx + m))
    G[:nx, :nx] = np.eye(nx)
    right[size : size + nx, :nx] = np.eye(nx)
    for k in range(n + 1):
        last = k == n
        at = slice(k * (nx + nu), k * (nx + nu) + nx + (0 if last else nu))
        u_k = np.zeros(nu) if last else solution.inputs[k]
        pi_k = np.zeros(nx) if last else solution.costates[k]
        found = stage(solution.states[k], u_k, pi_k, solution.parameters[k])
        hessian, jacobian, last_hessian = (np.array(matrix) for matrix in found)
        hessian, width = (last_hessian if last else hessian), at.stop - at.start
        H[at, at] = hessian[:width, :width]
        right[at, nx:] = -hessian[:width, nx + nu :] @ dp[k]
        if not last:
            pulls = solution.input_multipliers[k] / (
                u_k - limits.input_min, limits.input_max - u_k
            )
            H[at, at][nx:, nx:] += np.diag(pulls.sum(axis=0))
            row = slice((k + 1) * nx, (k + 2) * nx)
            G[row, at], G[row, at.stop : at.stop + nx] = -jacobian[:, : nx + nu], np.eye(nx)
            right[size:][row, nx:] = jacobian[:, nx + nu :] @ dp[k]
    kkt = np.block([[H, G.T], [G, np.zeros((len(G), len(G)))]])
    return np.linalg.solve(kkt, right)[nx : nx + nu]


@pytest.mark.parametrize('limits', LIMITS)
def test_it_agrees_with_a_dense_solve_of_the_whole_plan(policy, limits):
    policy.set_limits(LIMITS[limits])
    solution, theta = converged(policy), BELIEVED.theta

    def stage_parameters(moved):
        policy.set_parameters(TrackingParameters.from_theta(theta + moved))
        return policy.solve(on_the_eight(TIME), Window(EIGHT, TIME)).parameters

    by_theta = differences(stage_parameters, N_THETA, np.full(N_THETA, 1e-3 * theta.min()))
    by_estimate = np.zeros((*solution.parameters.shape, 4))
    where = np.r_[model.STAGE['thrust_ratio'], model.STAGE['disturbance']]
    by_estimate[:, where, np.arange(4)] = 1.0
    dense = dense_answer(solution, np.concatenate((by_theta, by_estimate), -1), LIMITS[limits])
    derivative = differentiate([solution], BELIEVED, LIMITS[limits])
    by_state = dense[:, :14] @ tangent(solution.states[0, 6:10])
    np.testing.assert_allclose(derivative.state_gain[0, :, :13], by_state, atol=1e-7)
    np.testing.assert_allclose(derivative.state_gain[0, :, 13:], dense[:, -4:], atol=1e-7)
    np.testing.assert_allclose(derivative.jacobian()[0], dense[:, 14:-4], atol=1e-7)
    seed = np.array([[1.0, -2.0, 0.5, 3.0]])
    np.testing.assert_allclose(derivative.vjp(seed), seed[0] @ dense[:, 14:-4], atol=1e-7)


@pytest.fixture(scope='module')
def exact_solver(tmp_path_factory):
    """Generate the same problem with exact Hessians, solved by SQP to the end."""
    sizes = {'x': model.NX, 'u': model.NU, 'p': model.NP}
    x, u, p = (ca.SX.sym(name, size) for name, size in sizes.items())
    stage = model.Stage(p)
    ocp = acados().template.AcadosOcp()
    m = acados().template.AcadosModel()
    m.name, m.x, m.u, m.p = 'exact_tracking', x, u, p
    m.disc_dyn_expr = model.step(x, u, stage)
    m.cost_expr_ext_cost = ca.sumsqr(model.residual(x, u, stage)) / 2
    m.cost_expr_ext_cost_e = ca.sumsqr(model.state_residual(x, stage)) / 2
    ocp.model, ocp.parameter_values = m, np.zeros(model.NP)
    ocp.cost.cost_type = ocp.cost.cost_type_e = 'EXTERNAL'
    ocp.constraints.x0 = np.zeros(model.NX)
    ocp.constraints.idxbu = np.arange(model.NU)
    ocp.constraints.lbu, ocp.constraints.ubu = -np.ones(model.NU), np.ones(model.NU)
    acados().real_time(ocp, 20, 20, 1e-11, 200)
    options = ocp.solver_options
    options.nlp_solver_type, options.hessian_approx = 'SQP', 'EXACT'
    options.qp_solver_ric_alg = options.qp_solver_cond_ric_alg = 0  # the Hessian may be indefinite
    options.ext_fun_compile_flags = '-O0'  # it is compiled for three solves
    for kind in ('stat', 'eq', 'ineq', 'comp'):
        setattr(options, f'nlp_solver_tol_{kind}', 1e-10)
    folder = tmp_path_factory.mktemp('exact') / 'code'
    folder.mkdir()
    with quiet():
        solver = acados().load(ocp, folder, build=True)
    if not hasattr(solver, 'eval_param_sens'):
        pytest.skip('this acados has no eval_param_sens')
    return solver


@pytest.mark.parametrize('limits', LIMITS)
def test_it_agrees_with_the_sensitivities_of_acados(policy, exact_solver, limits):
    policy.set_limits(LIMITS[limits])
    solution, solver = converged(policy), exact_solver
    solver.reset()
    for k, parameters in enumerate(solution.parameters):
        solver.set(k, 'p', parameters)
        # Away from the solution. Begun at it, HPIPM is done after one iteration; acados then
        # differentiates with the barrier that this iteration began with, and is wrong by half.
        solver.set(k, 'x', solution.initial)
    for k in range(len(solution.inputs)):
        solver.set(k, 'u', np.array([9.81, 0, 0, 0]))
        solver.constraints_set(k, 'lbu', LIMITS[limits].input_min)
        solver.constraints_set(k, 'ubu', LIMITS[limits].input_max)
    solver.set(0, 'lbx', solution.initial)
    solver.set(0, 'ubx', solution.initial)
    assert solver.solve() == 0
    np.testing.assert_allclose(solver.get(0, 'u'), solution.inputs[0], atol=1e-7)
    columns = []
    for i in range(model.NX):
        solver.eval_param_sens(i)
        columns.append(solver.get(0, 'sens_u'))
    theirs = np.stack(columns, axis=-1) @ tangent(solution.states[0, 6:10])
    ours = differentiate([solution], BELIEVED, LIMITS[limits]).state_gain[0, :, :13]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_steps_without_a_minimum_or_a_solve_are_named(policy):
    policy.set_limits(LIMITS['free'])
    good, last = converged(policy), policy.solve(np.full(13, np.nan), Window(EIGHT, TIME))
    no_minimum = dataclasses.replace(good, costates=-1e3 * good.costates)
    derivative = differentiate([good, no_minimum, good, last], BELIEVED, policy.limits)
    assert derivative.failed == (1, 3)
    for ask in (derivative.jacobian, lambda: derivative.state_gain):
        with pytest.raises(MissingDerivativeError) as caught:
            ask()
        assert caught.value.steps == (1, 3)
    assert differentiate([good], BELIEVED, policy.limits).failed == ()


@pytest.mark.parametrize('drag', [(0.0, 0.0, 0.0), (0.4, 0.6, 0.2)])
def test_the_model_flies_the_reference_that_flatness_promises(drag):
    times = np.linspace(0.0, 12.0, 200)
    samples = make('lissajous', {}).sample(times)
    samples = samples._replace(yaw=0.3 * times, yaw_rate=np.full(times.size, 0.3))
    believed = Drag(1.2, drag, (0.5, -0.3, 0.2))
    p = ca.SX.sym('p', model.NP)
    both = ca.Function('flat', [p], [ca.vertcat(*model.flat_reference(model.Stage(p)))])
    stage = np.zeros((times.size, model.NP))
    stage[:, : model.N_SAMPLE] = np.column_stack(samples)
    stage[:, model.STAGE['thrust_gain']], stage[:, model.STAGE['drag']] = 1.0, drag
    stage[:, model.STAGE['thrust_ratio']] = 1.2
    stage[:, model.STAGE['disturbance']] = believed.disturbance
    found = np.array(both(stage.T)).T
    states, inputs = flat_states(samples, believed)
    full = np.column_stack((states[:, :10], inputs[:, :1], states[:, 10:], inputs))
    np.testing.assert_allclose(found, full, atol=1e-12)


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
            solution = policy.solve(plant.state, Window(EIGHT, t))
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


def differentiated(policy, plant, theta, states, solutions):
    """Return the derivatives of policy and loop along a flight."""
    parameters = TrackingParameters.from_theta(theta)
    policy.set_parameters(parameters)
    inputs = np.array([s.input for s in solutions])
    estimates = np.array([s.estimate for s in solutions])
    jacobians = plant.jacobians(states, inputs)
    loop = augmented(parameters, states, inputs, estimates, jacobians, PERIOD)
    return policy.differentiate(solutions), loop


def flight_gradient(policy, plant, theta, states, solutions):
    derivatives = differentiated(policy, plant, theta, states, solutions)
    return loop_gradient(*derivatives, cost(states)[1], np.zeros((len(solutions), 4)))


def slopes(policy, plant, theta, directions, **flight):
    """Differentiate the cost of whole flights by central differences along directions (k, n)."""
    return np.array([
        np.subtract(*(cost(fly(policy, plant, theta + s * d, **flight)[0])[0] for s in (1, -1))) / 2
        for d in directions
    ])  # fmt: skip


def test_the_gradient_of_a_flight_is_exact_where_every_solve_is_converged(policy):
    policy.set_limits(LIMITS['free'])
    plant, theta = NominalPlant(TRUE, PERIOD), BELIEVED.theta
    flight = {'steps': 40, 'iterations': 8}
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


def test_forward_sensitivities_are_the_transpose_of_the_gradient(policy):
    policy.set_limits(LIMITS['free'])
    plant, theta = NominalPlant(TRUE, PERIOD), BELIEVED.theta
    states, solutions = fly(policy, plant, theta, steps=30)
    derivative, loop = differentiated(policy, plant, theta, states, solutions)
    hidden = loop.A.shape[-1] - N_STATE
    forward = forward_sensitivity(
        np.pad(derivative.state_gain, ((0, 0), (0, 0), (0, hidden))),
        derivative.jacobian(), loop.A, loop.B, forcing=loop.forcing, initial=loop.initial,
    )  # fmt: skip
    by_x, by_u = np.random.default_rng(0).standard_normal((2, 31, 12))
    by_u = by_u[:30, :4]
    moved = np.einsum('ti,tin->n', by_x, forward.states[:, :12])
    moved += np.einsum('ti,tin->n', by_u, forward.inputs)
    backward = loop_gradient(derivative, loop, by_x, by_u)
    np.testing.assert_allclose(moved, backward, rtol=1e-8, atol=1e-8 * np.abs(backward).max())
