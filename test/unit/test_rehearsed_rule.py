import numpy as np
import pytest

from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.rehearsed import GROW, KEPT, SHRINK, Lesson, RehearsedRule
from hmpc_ros.learning.requests import Evaluation
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

SPACE = ParameterSpace((Block('place', (1,), -10.0, 10.0),))
START = Parameters(SPACE, np.array([4.0]))


class Walker:
    """Knows a quadratic J = theta^2 up to a wrong factor, and walks as far as it may."""

    def __init__(self, belief=1.0):
        self.belief = belief
        self.seen = []

    def keep(self, flight):
        return {'states': flight.states}

    def learn(self, flights, best, radius, seed):
        self.seen.append((len(flights), radius, seed))
        step = np.sign(best.theta) * np.minimum(radius, np.abs(best.theta))
        there = best.with_theta(best.theta - self.belief * step)
        return Lesson(there, float((best.theta[0] - step[0]) ** 2), {'identified': {}})


def flight():
    return Flight(np.zeros((3, 12)), np.zeros((2, 4)), None, np.zeros(4))


def run(rule, iterations):
    policy, memory, steps = START, {}, []
    for k in range(iterations):
        asking = rule.iterate(k, policy, memory, np.random.default_rng([0, k]))
        (request,) = next(asking)
        J = float(request.theta[0] ** 2)
        with pytest.raises(StopIteration) as stop:
            asking.send([Evaluation(request, flight(), Outcome(J, 0.0, J))])
        steps.append(stop.value.value)
        policy, memory = steps[-1].next, steps[-1].memory
    return steps


def test_what_comes_true_is_kept_and_widens_the_region():
    student = Walker()
    steps = run(RehearsedRule(student, radius=0.5, most=2.0), 4)
    assert all(step.accepted for step in steps)
    assert [step.memory['best_k'] for step in steps] == [0, 1, 2, 3]
    assert [radius for _, radius, _ in student.seen] == [0.5, 0.5 * GROW, 2.0, 2.0]
    assert [count for count, _, _ in student.seen] == [1, 2, KEPT, KEPT]


def test_what_turns_out_worse_is_not_handed_on_and_narrows_the_region():
    student = Walker(belief=-1.0)
    steps = run(RehearsedRule(student, radius=1.0), 3)
    assert [step.accepted for step in steps] == [True, False, False]
    assert steps[-1].memory['best_theta'] == START.theta
    assert 'no better than' in steps[1].reason
    assert [radius for _, radius, _ in student.seen] == [1.0, SHRINK, SHRINK**2]


def test_a_first_flight_without_a_cost_ends_the_run():
    asking = RehearsedRule(Walker()).iterate(0, START, {}, np.random.default_rng(0))
    (request,) = next(asking)
    lost = Outcome(np.inf, np.inf, np.inf)
    with pytest.raises(StopIteration) as stop:
        asking.send([Evaluation(request, flight(), lost)])
    assert stop.value.value.diverged
    assert 'no cost' in stop.value.value.reason
