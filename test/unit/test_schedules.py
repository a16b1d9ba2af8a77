import numpy as np
import pytest

from hmpc_ros.configuration import files, learner
from hmpc_ros.learning.schedules import StepSize, Trust, convergence_warnings
from hmpc_ros.policy.linear.weights import N_THETA, P_PART, Q_PART, R_PART, space

PAPER = StepSize()


def test_the_papers_step_sizes_are_the_defaults():
    for k in (0, 1, 199):
        assert PAPER(k) == pytest.approx(5e-5 * np.log(k + 2) / (k + 1) ** 0.75)


def test_trust_fades_with_gamma():
    assert [Trust(1.0, 0.5)(k) for k in (0, 3, 99)] == pytest.approx([1, 0.5, 0.1])


@pytest.mark.parametrize('gamma', [0.5, 0.75])
def test_the_papers_gammas_that_converge_warn_of_nothing(gamma):
    assert convergence_warnings(PAPER, Trust(1.0, gamma)) == []


@pytest.mark.parametrize(
    ('step_size', 'trust', 'violated'),
    [
        (PAPER, Trust(1.0, 0.25), 'sum eta_k alpha_k < inf'),
        (PAPER, Trust(1.0, 0.0), 'sum eta_k alpha_k < inf'),
        (StepSize(exponent=0.5), Trust(0.0), 'sum alpha_k^2 < inf'),
        (StepSize(exponent=1.2), Trust(1.0, 0.5), 'sum alpha_k = inf'),
    ],
)
def test_a_violated_condition_is_named(step_size, trust, violated):
    (warning,) = convergence_warnings(step_size, trust)
    assert warning.startswith(f'{violated} is violated')


def test_constant_steps_violate_two_conditions():
    warnings = convergence_warnings(StepSize(exponent=0.0), Trust(1.0, 0.5))
    assert len(warnings) == 2


def test_no_trust_at_all_need_not_fade():
    assert convergence_warnings(PAPER, Trust(0.0, 0.0)) == []


def test_the_configuration_warns_for_the_estimator_that_is_used():
    def warnings(*overrides):
        given = ['rule=paper', *overrides]
        settings = files.load(None, [f'learner.{value}' for value in given])['learner']
        return learner.warnings(settings)

    assert warnings() == []
    assert 'eta' in warnings('trust.exponent=0.25')[0]
    assert 'eta' in warnings('estimator=model_based')[0]
    assert warnings('estimator=zeroth_order') == []
    assert warnings('estimator=model_based', 'jacobians=vehicle') == []


@pytest.mark.parametrize(
    'make',
    [
        lambda: StepSize(scale=0.0),
        lambda: StepSize(exponent=-1.0),
        lambda: Trust(1.5),
        lambda: Trust(1.0, -0.1),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(ValueError, match='must'):
        make()


def test_the_box_projects_to_its_nearest_point():
    box = space(1.0, 2.0, 3.0)
    theta = np.full(N_THETA, 10.0)
    projected = box.project(-theta)
    assert (projected[Q_PART], projected[R_PART], projected[P_PART]) == (
        pytest.approx(-1), pytest.approx(-2), pytest.approx(-3),
    )  # fmt: skip
    inside = np.full(N_THETA, 0.5)
    assert np.array_equal(box.project(inside), inside)


def test_start_weights_outside_the_box_are_refused_by_entry():
    theta = np.zeros(N_THETA)
    theta[13] = 5.0
    with pytest.raises(ValueError, match=r'theta\[13\] = 5'):
        space(1.0, 2.0, 3.0).refuse_outside(theta)


def test_a_box_without_bound_is_refused():
    with pytest.raises(ValueError, match='finite'):
        space(np.inf, 1.0, 1.0)
