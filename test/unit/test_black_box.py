"""Rules that know costs only, and any rule on logarithms."""

import sys

import numpy as np
import pytest

from hmpc_ros.learning.black_box import BlackBoxRule, bayesian, cma_es
from hmpc_ros.learning.logarithms import LogarithmicRule, Logarithms
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.requests import Evaluation
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

SPACE = ParameterSpace((Block('weight', (3,), 1e-3, 1e3),))
BEST = np.array([2.0, 0.5, 1.0])


class _Flight:
    ended = ''


def _cost(theta):
    return 1e-3 + float(np.sum(np.log(theta / BEST)[:2] ** 2))


def _seen():
    start = Parameters(SPACE, np.ones(3))
    return Logarithms(start, np.array([True, True, False]), 3.0)


def _run(rule, iterations, seed=0, before=None):
    """Fly iterations, from what another run left or from the beginning; all that was flown."""
    policy, memory, flown = before or (Parameters(SPACE, np.ones(3)), {}, [])
    flown = list(flown)
    for k in range(len(flown), len(flown) + iterations):
        asking = rule.iterate(k, policy, memory, np.random.default_rng([seed, k]))
        (request,) = next(asking)
        J = _cost(request.theta)
        with pytest.raises(StopIteration) as stop:
            asking.send([Evaluation(request, _Flight(), Outcome(J, 0.0, J))])
        step = stop.value.value
        flown.append(step.nominal.theta)
        policy, memory = step.next, step.memory
    return policy, memory, flown


@pytest.mark.parametrize('suggest', [cma_es, bayesian])
def test_an_optimiser_lowers_the_cost_and_leaves_alone_what_is_not_free(suggest):
    pytest.importorskip({cma_es: 'cma', bayesian: 'bayes_opt'}[suggest])
    flights = {cma_es: 40, bayesian: 18}[suggest]
    *_, flown = _run(LogarithmicRule(BlackBoxRule(suggest), _seen()), flights)
    costs = [_cost(theta) for theta in flown]
    assert costs[0] == pytest.approx(_cost(np.ones(3)))
    assert min(costs) < 0.1 * costs[0]
    assert all(theta[2] == 1.0 for theta in flown)


@pytest.mark.parametrize('suggest', [cma_es, bayesian])
def test_an_interrupted_run_goes_on_with_the_same_candidates(suggest):
    pytest.importorskip({cma_es: 'cma', bayesian: 'bayes_opt'}[suggest])
    rule = LogarithmicRule(BlackBoxRule(suggest), _seen())
    unbroken = _run(rule, 13)[2]
    resumed = _run(rule, 3, before=_run(rule, 10))[2]
    np.testing.assert_array_equal(unbroken, resumed)
    assert not np.array_equal(_run(rule, 13, seed=1)[2], unbroken)


@pytest.mark.parametrize('name', ['cma', 'bayes_opt'])
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    rule = BlackBoxRule({'cma': cma_es, 'bayes_opt': bayesian}[name])
    with pytest.raises(ValueError, match=r'pip install .hmpc_ros\[compare\]'):
        _run(rule, 1)


def test_logarithms_come_back_and_stay_within_reach_and_bounds():
    start = Parameters(SPACE, np.array([2e-3, 500.0, 1.0]))
    seen = Logarithms(start, np.array([True, True, False]), 3.0)
    np.testing.assert_allclose(seen.back(seen.of(start)).theta, start.theta)
    np.testing.assert_allclose(np.exp(seen.space.lower), [1e-3, 500 * np.exp(-3)])
    np.testing.assert_allclose(np.exp(seen.space.upper), [2e-3 * np.exp(3), 1e3])
    np.testing.assert_allclose(seen.slope(np.array([3.0, 2.0, 9.0]), seen.of(start)), [6e-3, 1000])


def test_an_entry_that_is_zero_has_no_logarithm():
    with pytest.raises(ValueError, match='only positive'):
        Logarithms(Parameters(SPACE, np.array([0.0, 1.0, 1.0])), np.ones(3, dtype=bool), 3.0)
