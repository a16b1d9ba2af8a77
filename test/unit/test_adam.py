"""Adam as an update rule, on an objective that is known."""

import numpy as np
import pytest

from hmpc_ros.learning.adam import AdamRule
from hmpc_ros.learning.estimators import GradientEstimate
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.requests import Evaluation
from hmpc_ros.learning.safety import Safeguard
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

TARGET = np.linspace(0.5, 1.5, 94)
SPACE = ParameterSpace((Block('x', (94,), -10.0, 10.0),))


class Ended:
    ended = ''
    failed_steps = ()


class Exact:
    """The gradient of |theta - target|^2."""

    sign = 1.0

    def estimate(self, nominal, k, rng):
        yield from ()
        gradient = self.sign * 2 * (nominal.theta - TARGET)
        return GradientEstimate(gradient, gradient, None, 1.0)


def run(rule, iterations, cost=lambda theta: float(np.sum((theta - TARGET) ** 2))):
    policy, memory, steps = Parameters(SPACE, np.ones(94)), {}, []
    for k in range(iterations):
        asking = rule.iterate(k, policy, memory, np.random.default_rng(k))
        (request,) = next(asking)
        J = cost(request.theta)
        with pytest.raises(StopIteration) as stop:
            asking.send([Evaluation(request, Ended(), Outcome(J, 0.0, J))])
        step = stop.value.value
        policy, memory = step.next, step.memory
        steps.append(step)
        if step.diverged:
            break
    return steps


def test_it_finds_the_minimum():
    steps = run(AdamRule(Exact(), 0.02), 60)
    best = min(step.nominal.outcome.J for step in steps)
    assert best < 1e-2 * steps[0].nominal.outcome.J


def test_every_weight_moves_by_the_step_size_at_first():
    steps = run(AdamRule(Exact(), 0.05), 1)
    assert np.abs(steps[0].next_theta - 1.0) == pytest.approx(0.05, rel=1e-6)


def test_far_above_the_best_it_goes_back_there_with_smaller_steps():
    class Wrong(Exact):
        sign = -1.0

    steps = run(AdamRule(Wrong(), 0.2, Safeguard(margin=0.3, shrink=0.5)), 12)
    rejected = [step for step in steps if not step.accepted]
    assert rejected
    assert 'above the best' in rejected[0].reason
    best = min(steps, key=lambda step: step.nominal.outcome.J)
    assert np.array_equal(rejected[0].next_theta, best.nominal.theta)
    assert rejected[-1].memory['scale'] < 0.5


def test_a_start_that_cannot_be_flown_ends_the_run():
    steps = run(AdamRule(Exact(), 0.05), 5, cost=lambda _theta: float('inf'))
    assert len(steps) == 1
    assert steps[0].diverged


@pytest.mark.parametrize('numbers', [{'step_size': 0.0}, {'step_size': 1.0, 'first_moment': 1.0}])
def test_impossible_settings_are_refused(numbers):
    with pytest.raises(ValueError):
        AdamRule(Exact(), **numbers)
