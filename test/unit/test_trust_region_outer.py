"""The trust region's rule with a model that knows neither vehicle nor policy."""

import numpy as np
import pytest

from hmpc_ros.learning.model import GROW, SHRINK, Proposal
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.requests import Evaluation
from hmpc_ros.learning.trust_region import Settings, TrustRegionRule
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

SPACE = ParameterSpace((Block('place', (1,), -10.0, 10.0),))
START = Parameters(SPACE, np.array([4.0]))


class Walker:
    """Knows a quadratic J = theta^2 up to a wrong factor, and walks as far as it may."""

    widest, wants_solutions, kept, notes = 2.0, False, (), []

    def __init__(self, belief=1.0, noisy=False, scale=1.0):
        self.belief, self.noisy, self.scale = belief, noisy, scale
        self.details, self.radii, self.learned = {}, [], 0

    def learn(self, flown, again=None):
        self.learned += len(flown)

    def keep(self, flown):
        return {}

    def cost(self, parameters):
        return np.nan

    def rescue(self):
        return None

    def improve(self, base, region, new):
        self.radii.append(region.radius)
        here = base.parameters.theta
        step = np.sign(here) * np.minimum(region.radius, np.abs(here))
        there = base.parameters.with_theta(here - self.belief * step)
        promised = self.scale * float(((here - step) ** 2 - here**2)[0])
        return Proposal(there, region.radius, promised, boundary=True)

    def arrays(self):
        return {}

    def restore(self, memory):
        pass


def run(walker, iterations, scale=1.0, more=0.0, noise=0.0, **settings):
    """Return the steps, and how many flights each took."""
    rule = TrustRegionRule(START, lambda _: walker, Settings(probes=0, **settings))
    draws = np.random.default_rng(4)
    policy, memory, history = START, {}, []
    for k in range(iterations):
        asking, count = rule.iterate(k, policy, memory, np.random.default_rng([0, k])), 0
        (request,) = next(asking)
        with pytest.raises(StopIteration) as stop:  # noqa: PT012
            while True:
                J = scale * (float(request.theta[0] ** 2) + noise * draws.standard_normal()) + more
                flight = Flight(np.zeros((3, 12)), np.zeros((2, 4)), None, np.zeros(4))
                count += 1
                (request,) = asking.send([Evaluation(request, flight, Outcome(J, 0.0, J))])
        step = stop.value.value
        history.append((step, count))
        policy, memory = step.next, step.memory
    return history


def test_what_comes_true_is_kept_and_widens_the_region_to_its_largest():
    walker = Walker()
    history = run(walker, 4, radius=0.5)
    assert all(step.accepted for step, _ in history)
    assert [step.details['best_k'] for step, _ in history] == [0, 1, 2, 3]
    assert walker.radii == [0.5, 0.5 * GROW, 2.0, 2.0]


def test_what_turns_out_worse_is_not_handed_on_and_narrows_the_region():
    walker = Walker(belief=-1.0)
    history = run(walker, 3, radius=1.0)
    assert [step.accepted for step, _ in history] == [True, False, False]
    assert history[-1][0].memory['incumbent_theta'] == START.theta
    assert 'not proved to be below' in history[1][0].reason
    assert walker.radii == [1.0, SHRINK, SHRINK**2]


def test_a_first_flight_without_a_cost_ends_the_run_where_the_model_knows_no_rescue():
    rule = TrustRegionRule(START, lambda _: Walker(), Settings(probes=0))
    asking = rule.iterate(0, START, {}, np.random.default_rng(0))
    (request,) = next(asking)
    flight = Flight(np.zeros((3, 12)), np.zeros((2, 4)), None, np.zeros(4), ended='it fell')
    lost = Outcome(np.inf, np.inf, np.inf)
    with pytest.raises(StopIteration) as stop:
        asking.send([Evaluation(request, flight, lost)])
    assert stop.value.value.diverged
    assert stop.value.value.reason == 'nothing was found that flies: it fell'


@pytest.mark.parametrize('noise', [0.0, 1.0])
@pytest.mark.parametrize('otherwise', [{'more': 2.0**20}, {'scale': 2.0**-30}])
def test_adding_to_the_cost_and_scaling_it_change_nothing(noise, otherwise):
    scale = otherwise.get('scale', 1.0)
    plain = run(Walker(noisy=noise > 0), 8, noise=noise, radius=0.5)
    other = run(Walker(noisy=noise > 0, scale=scale), 8, noise=noise, radius=0.5, **otherwise)
    for (step, count), (same, as_many) in zip(plain, other, strict=True):
        assert np.array_equal(same.next_theta, step.next_theta)
        assert (same.accepted, as_many) == (step.accepted, count)


def test_noisy_candidates_fly_again_until_their_gain_is_proved_and_calm_ones_never():
    assert {count for _, count in run(Walker(), 5, radius=0.5)} == {1}
    history = run(Walker(noisy=True), 8, noise=1.0, radius=0.5)
    assert history[0][1] == 2  # the scatter of flights is not known before
    assert max(count for _, count in history[1:]) > 1
    for step, _ in history[1:]:
        assert step.details['share_of_flights'] == 1.0
