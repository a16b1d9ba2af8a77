"""The derivative of the MPC against four others that share no code with it.

300 random solves (model with drift, weights, state): 160 with no bound acting, 102 with rotor
limits, 87 with violated and 114 with exactly held soft bounds (several kinds in one solve are
usual). In 13 a bound is about to begin or cease to act (`activity_margin` below 1e-4): those are
counted, and judged apart. Errors relative to the largest entry of the exact derivative, floored at
0.1 rad/s per unit (a saturated u_0 has derivative zero; the usual largest entry is about 100), at
the quantiles 50 %, 90 % and 100 %, as printed by `pytest test/unit/test_sensitivity.py -s`:

    regular: 287 solves
      du_0/dx, against the active-set system                    1.8e-10  8.7e-08  1.2e-04
      du_0/dtheta, against the active-set system                5.6e-10  5.5e-08  3.2e-04
      du_0/dx at PIQP's solution, against the same              3.8e-12  6.2e-08  7.2e-05
      acados' eval_param_sens, against the same                 1.8e-05  9.4e-04  3.5e-02
    all: 300 solves
      du_0/dx, against the active-set system                    3.5e-10  1.2e-07  4.8e-03
      du_0/dtheta, against the active-set system                7.0e-10  8.1e-08  7.1e-03
      du_0/dx at PIQP's solution, against the same              1.4e-11  8.1e-08  4.3e-04
      acados' eval_param_sens, against the same                 2.0e-05  1.0e-03  3.5e-02

Central differences of acados' solves in random directions: 1.4e-08, 7.2e-07 and 2.9e-03 where
both ends have the same active set (197 of 200; the other 3 cross a kink).
"""

import contextlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from activity import activity_margin
from random_flight_states import (
    SPREAD,
    random_deviation,
    random_model,
    random_weights,
    reference_model,
    reference_weights,
)
from reference_qp import PiqpMpc, active_set, active_set_derivative

from hmpc_ros.policy.linear import sensitivity
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc, Solution
from hmpc_ros.policy.linear.unconstrained import OfflineMpc
from hmpc_ros.policy.linear.weights import N_THETA, SLACK, Weights, parameters_of, space
from hmpc_ros.policy.protocol import MissingDerivativeError, SolveStatus

# All that random states are away from the goal is shown: the derivative of the QP is tested here.
LIMITS = Limits(position_deviation=100.0)
# Below this margin (see `activity_margin`) a bound is about to begin or cease to act: u_0 has a
# kink there, and the barrier's derivative is one between the two sides.
DEGENERATE = 1e-4
QUANTILES = (0.5, 0.9, 1.0)


@dataclass
class Case:
    """One random solve with every derivative there is of it."""

    model: object
    weights: object
    solution: Solution
    margin: float
    acting: tuple
    state_gain: np.ndarray
    weight_jacobian: np.ndarray
    exact_state_gain: np.ndarray
    exact_weight_jacobian: np.ndarray
    from_piqp: np.ndarray
    acados_state_gain: np.ndarray


def relative_error(value, exact):
    return np.abs(value - exact).max() / max(np.abs(exact).max(), 0.1)


def as_solution(layout, parts):
    """Pack what the reference solver found into the package's type."""
    names = (
        'states', 'inputs', 'slacks', 'input_multipliers', 'state_multipliers', 'slack_multipliers',
    )  # fmt: skip
    flat = np.concatenate([getattr(parts, name).ravel() for name in names])
    return Solution(SolveStatus.SUCCESS, np.zeros(4), flat, layout, 0, 0.0, 0.0)


def acados_state_gain(mpc):
    """du_0/dx_0 by acados' own eval_param_sens at the last solve; NaN where it refuses."""
    solver = mpc._qp._solver
    gain = np.full((4, 12), np.nan)
    # Removed in v0.6; before, the official one came to want an exact Hessian for it.
    with contextlib.suppress(AttributeError, ValueError):
        for i in range(12):
            solver.eval_param_sens(i, 0, 'ex')
            gain[:, i] = solver.get(0, 'sens_u')
    return gain


@pytest.fixture(scope='module')
def mpc():
    model = reference_model()
    return Mpc(model, LIMITS, reference_weights(model))


@pytest.fixture(scope='module')
def cases(mpc):
    rng = np.random.default_rng(3)
    cases = []
    for _ in range(60):
        model = random_model(rng)
        weights = random_weights(rng, model)
        mpc.set_model(model)
        mpc.set_weights(weights)
        reference = PiqpMpc(model, weights, LIMITS)
        for _ in range(5):
            x0 = random_deviation(rng)
            solution = mpc.solve_deviation(x0)
            assert solution.ok
            acados = acados_state_gain(mpc)
            independent = as_solution(mpc.layout, reference.solve(x0))
            ours = sensitivity.factorise(model, weights, LIMITS, [solution])
            from_piqp = sensitivity.factorise(model, weights, LIMITS, [independent])
            exact = active_set_derivative(model, weights, LIMITS, independent)
            margin = activity_margin(model, weights, LIMITS, [independent])
            cases.append(
                Case(
                    model=model,
                    weights=weights,
                    solution=solution,
                    margin=margin[0],
                    acting=active_set(model, weights, LIMITS, independent),
                    state_gain=ours.state_gain[0],
                    weight_jacobian=ours.jacobian()[0],
                    exact_state_gain=exact[0],
                    exact_weight_jacobian=exact[1],
                    from_piqp=from_piqp.state_gain[0],
                    acados_state_gain=acados,
                )
            )
    return cases


@pytest.fixture(scope='module')
def regular(cases):
    return [case for case in cases if case.margin >= DEGENERATE]


def test_the_sample_has_every_kind_of_active_set_and_few_degenerate_ones(cases, regular):
    hard, touching, violated = (
        np.array([case.acting[i].any() for case in cases]) for i in range(3)
    )
    held = np.array([(case.acting[1] & ~case.acting[2]).any() for case in cases])
    free = ~hard & ~touching
    print(
        f'\n{len(cases)} solves: {free.sum()} free, {hard.sum()} with rotor limits, '
        f'{violated.sum()} with violated and {held.sum()} with exactly held soft bounds, '
        f'{len(cases) - len(regular)} degenerate'
    )
    assert min(free.sum(), hard.sum(), violated.sum(), held.sum()) >= 30
    assert len(cases) - len(regular) <= 0.1 * len(cases)


def test_derivatives_agree_with_the_dense_active_set_system(regular):
    by_state = [relative_error(case.state_gain, case.exact_state_gain) for case in regular]
    by_weights = [
        relative_error(case.weight_jacobian, case.exact_weight_jacobian) for case in regular
    ]
    for errors in (by_state, by_weights):
        median, most, worst = np.quantile(errors, QUANTILES)
        assert median < 1e-7
        assert most < 1e-5
        assert worst < 1e-2


def test_derivatives_are_exact_at_another_solvers_exact_solution(regular):
    errors = [relative_error(case.from_piqp, case.exact_state_gain) for case in regular]
    assert np.median(errors) < 1e-8
    assert np.quantile(errors, 0.9) < 1e-5


def test_state_gain_agrees_with_acados_own_derivative_and_is_closer_to_the_exact_one(regular):
    theirs = [relative_error(case.acados_state_gain, case.exact_state_gain) for case in regular]
    if np.isnan(theirs).any():
        pytest.skip('this acados has no eval_param_sens for a Gauss-Newton Hessian')
    between = [relative_error(case.state_gain, case.acados_state_gain) for case in regular]
    ours = [relative_error(case.state_gain, case.exact_state_gain) for case in regular]
    assert np.median(between) < 1e-3
    assert np.quantile(between, 0.9) < 1e-2
    assert np.median(ours) < np.median(theirs)


def test_error_distribution(cases, regular):
    def show(name, errors):
        print(
            f'  {name:58s}' + '  '.join(f'{value:.1e}' for value in np.quantile(errors, QUANTILES))
        )

    print()
    for which, chosen in (('regular', regular), ('all', cases)):
        print(f'{which}: {len(chosen)} solves')
        gains = [(case.state_gain, case.exact_state_gain) for case in chosen]
        show('du_0/dx, against the active-set system', [relative_error(*pair) for pair in gains])
        pairs = [(case.weight_jacobian, case.exact_weight_jacobian) for case in chosen]
        show(
            'du_0/dtheta, against the active-set system', [relative_error(*pair) for pair in pairs]
        )
        pairs = [(case.from_piqp, case.exact_state_gain) for case in chosen]
        show(
            "du_0/dx at PIQP's solution, against the same",
            [relative_error(*pair) for pair in pairs],
        )
        pairs = [(case.acados_state_gain, case.exact_state_gain) for case in chosen]
        show("acados' eval_param_sens, against the same", [relative_error(*pair) for pair in pairs])
    assert len(cases) == 300


def test_central_finite_differences_of_acados_agree_where_no_kink_is_crossed(mpc, cases):
    rng = np.random.default_rng(4)
    errors, crossed = [], 0
    for case in cases[::3]:
        mpc.set_model(case.model)
        x0, theta = case.solution.states[0], case.weights.theta
        direction_x = 1e-4 * SPREAD * rng.standard_normal(12)
        direction_theta = 1e-4 * np.abs(theta) * rng.standard_normal(N_THETA)
        for dx, dtheta in ((direction_x, 0 * theta), (0 * x0, direction_theta)):
            ends = []
            for sign in (1, -1):
                mpc.set_weights(Weights.from_theta(theta + sign * dtheta))
                ends.append(mpc.solve_deviation(x0 + sign * dx))
                assert ends[-1].ok
            # The map is smooth as long as the same bounds act: a change of that set is a kink.
            sets = [active_set(case.model, case.weights, LIMITS, end) for end in ends]
            if any((first != last).any() for first, last in zip(*sets, strict=True)):
                crossed += 1
                continue
            difference = (ends[0].inputs[0] - ends[1].inputs[0]) / 2
            predicted = case.state_gain @ dx + case.weight_jacobian @ dtheta
            scale = max(np.abs(predicted).max(), 1e-4)  # rad/s
            errors.append(np.abs(difference - predicted).max() / scale)
    print(f'\n{len(errors)} differences, {crossed} across a kink, {np.quantile(errors, QUANTILES)}')
    assert crossed < 0.2 * len(cases)
    assert np.median(errors) < 1e-5
    assert np.quantile(errors, 0.9) < 1e-3


def test_the_derivative_by_the_costs_of_slacks_is_that_of_finite_differences(mpc, cases):
    rng, learned = np.random.default_rng(6), space(learn_slack=True)
    errors = []
    for case in cases:
        costs = SLACK * np.exp(0.5 * rng.standard_normal(SLACK.shape))
        w = replace(case.weights, slack=costs)
        start = parameters_of(w, case.model, learned)
        x0 = case.solution.states[0]
        mpc.use(start)
        solution = mpc.solve_deviation(x0)
        if not solution.ok or not (solution.slacks > 1e-4).any():
            continue  # costs of slacks that are not there do nothing
        derivative = sensitivity.factorise(case.model, w, LIMITS, [solution], space=learned)
        dtheta = np.zeros(learned.size)
        part = learned.parts['slack']
        dtheta[part] = 1e-4 * start.theta[part] * rng.standard_normal(SLACK.size)
        ends = []
        for sign in (1, -1):
            mpc.use(start.with_theta(start.theta + sign * dtheta))
            ends.append(mpc.solve_deviation(x0))
        sets = [active_set(case.model, w, LIMITS, end) for end in ends]
        if any((first != last).any() for first, last in zip(*sets, strict=True)):
            continue
        difference = (ends[0].inputs[0] - ends[1].inputs[0]) / 2
        predicted = derivative.jacobian()[0] @ dtheta
        seed = np.array([[1.0, -2.0, 0.5, 3.0]])
        assert derivative.vjp(seed)[part] @ dtheta[part] == pytest.approx(
            seed[0] @ predicted, rel=1e-6, abs=1e-9
        )
        scale = max(np.abs(predicted).max(), 1e-4)  # rad/s
        errors.append(np.abs(difference - predicted).max() / scale)
    print(f'\n{len(errors)} differences by slacks, {np.quantile(errors, QUANTILES)}')
    assert len(errors) > 50
    assert np.median(errors) < 1e-4
    assert np.quantile(errors, 0.9) < 1e-2


def test_cheaper_slacks_are_used_more_and_a_fixed_block_is_no_part_of_theta(mpc, cases):
    case = next(c for c in cases if (c.solution.slacks > 0.1).any())
    mpc.set_model(case.model)
    plain = parameters_of(case.weights, case.model)
    assert plain.theta.size == N_THETA == 94
    cheap = plain.with_fixed({'slack': np.full(SLACK.size, 2.0)})
    beyond = []
    for parameters in (plain, cheap):
        mpc.use(parameters)
        assert np.array_equal(mpc.parameters.fixed['slack'], parameters.fixed['slack'])
        beyond.append(mpc.solve_deviation(case.solution.states[0]).slacks.sum())
    assert beyond[1] > 1.05 * beyond[0]
    mpc.use(plain)
    again = mpc.solve_deviation(case.solution.states[0])
    assert again.flat == pytest.approx(case.solution.flat, abs=1e-6)


def test_a_flight_gives_what_its_steps_give_one_by_one(mpc):
    rng = np.random.default_rng(5)
    model = random_model(rng)
    weights = random_weights(rng, model)
    mpc.set_model(model)
    mpc.set_weights(weights)
    offline = OfflineMpc(mpc)
    solutions = [offline.solve_deviation(random_deviation(rng)) for _ in range(40)]
    assert min(offline.planned, offline.solved) > 5  # both kinds, mixed
    flight = offline.differentiate(solutions)
    seeds = rng.standard_normal((40, 4))
    each = np.einsum('tu,tui->ti', seeds, flight.jacobian())
    for t, solution in enumerate(solutions):
        single = sensitivity.factorise(model, weights, LIMITS, [solution])
        jacobian = single.jacobian()[0]
        # Bounds held exactly have curvatures of 1e10: their rounding depends on the batch.
        assert relative_error(flight.state_gain[t], single.state_gain[0]) < 1e-6
        assert relative_error(flight.jacobian()[t], jacobian) < 1e-6
    np.testing.assert_allclose(flight.vjp(seeds), each.sum(axis=0), rtol=1e-10, atol=1e-9)


def test_a_saturated_input_has_no_derivative_of_its_own(mpc):
    mpc.set_model(reference_model())
    mpc.set_weights(reference_weights(mpc.model))
    solution = mpc.solve_deviation(np.array([0, 0, -3.0, 0, 0, -1, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(solution.input, LIMITS.rotor_max, atol=1e-6)  # climb, all rotors
    derivative = sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [solution])
    assert np.abs(derivative.state_gain).max() < 1e-4
    assert np.abs(derivative.jacobian()).max() < 1e-4


def test_at_a_kink_the_derivative_lies_between_the_one_sided_ones(mpc):
    """Walk along a ray until the first rotor limit begins to act, and stop exactly there."""
    mpc.set_model(reference_model())
    mpc.set_weights(reference_weights(mpc.model))
    ray = np.array([0.5, -0.2, -0.3, 0, 0, 0, 0, 0, 0, 0, 0, 0])

    def gain(scale):
        solution = mpc.solve_deviation(scale * ray)
        margin = activity_margin(mpc.model, mpc.weights, LIMITS, [solution])[0]
        derivative = sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [solution])
        return derivative.state_gain[0], margin

    inputs = OfflineMpc(mpc).plan().plan(ray)[13 * 12 :].reshape(12, 4)
    kink = (LIMITS.rotor_max - mpc.model.hover_input[0]) / inputs.max()
    before, margin_before = gain(kink * (1 - 1e-2))
    at, margin_at = gain(kink)
    after, margin_after = gain(kink * (1 + 1e-2))
    assert margin_at < 1e-2 * min(margin_before, margin_after)
    step = after - before
    part = np.vdot(at - before, step) / np.vdot(step, step)
    assert 0 <= part <= 1
    np.testing.assert_allclose(at, before + part * step, atol=1e-3 * np.abs(step).max())


def test_a_failed_step_is_named_and_never_counted_as_zero(mpc):
    mpc.set_model(reference_model())
    mpc.set_weights(reference_weights(mpc.model))
    good = [mpc.solve_deviation(0.3 * SPREAD), mpc.solve_deviation(1e-3 * SPREAD)]
    failed = mpc.solve_deviation(np.full(12, np.nan))
    flight = sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [good[0], failed, good[1]])
    assert flight.failed_steps == (1,)
    seeds = np.ones((3, 4))
    for ask in (
        lambda: flight.state_gain,
        lambda: flight.vjp(seeds),
        flight.jacobian,
    ):
        with pytest.raises(MissingDerivativeError, match=r'1 of 3 steps \(1\)') as caught:
            ask()
        assert caught.value.steps == (1,)


def test_a_solution_that_is_not_finite_has_no_derivative_whatever_its_status_says(mpc):
    good = mpc.solve_deviation(0.3 * SPREAD)
    for part in range(6):
        flat = good.flat.copy()
        flat[mpc.layout.slices[part].start + 12] = np.nan
        lying = Solution(SolveStatus.SUCCESS, good.input, flat, mpc.layout, 1, 0.0, 0.0)
        flight = sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [good, lying])
        assert flight.failed_steps == (1,), part


@pytest.mark.filterwarnings('ignore:overflow:RuntimeWarning', 'ignore:invalid:RuntimeWarning')
def test_a_step_at_which_the_recursion_breaks_down_has_no_derivative(mpc):
    good = mpc.solve_deviation(0.3 * SPREAD)
    flat = good.flat.copy()
    # A yaw rate's multiplier that is no number any more once divided by the distance to the bound.
    flat[mpc.layout.slices[4].start + 17] = 1.7e308
    huge = Solution(SolveStatus.SUCCESS, good.input, flat, mpc.layout, 1, 0.0, 0.0)
    flight = sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [huge, good, good])
    assert flight.failed_steps == (0,)
    with pytest.raises(MissingDerivativeError):
        flight.vjp(np.ones((3, 4)))


def test_no_solutions_are_refused_with_a_sentence(mpc):
    with pytest.raises(ValueError, match='at least one solve'):
        sensitivity.factorise(mpc.model, mpc.weights, LIMITS, [])
