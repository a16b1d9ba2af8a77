"""The rule of one trust region and one test: it learns, it proves, and units do not matter."""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from reference_flight import ReferenceFlight
from rule_bench import RuleBench

from hmpc_ros.learning.composite import NEAR, CompositeModel, step_within
from hmpc_ros.learning.difference import Difference
from hmpc_ros.learning.model import SHRINK
from hmpc_ros.learning.objective import Objective, Outcome
from hmpc_ros.learning.rehearsed_model import RehearsedModel
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.trust_region import Settings, TrustRegionRule
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.parameters import ParameterSpace

STEPS = 120
NOISE = {'measurement_noise_std': tuple(np.repeat([5e-3, 2e-3], 6))}


@dataclass(frozen=True, eq=False)
class Raised(Objective):
    """The objective with a number added to every flight's cost."""

    more: float = field(default=0.0, kw_only=True)

    def cost(self, flight):
        outcome = super().cost(flight)
        return Outcome(outcome.C + self.more, outcome.V, outcome.J + self.more)


class InUnits:
    """The MPC with theta in other units: unit * theta are its own weights."""

    def __init__(self, mpc, own, unit):
        self._mpc, self._own, self._unit = mpc, own, unit

    def __getattr__(self, name):
        return getattr(self._mpc, name)

    def of(self, parameters):
        return replace(self._own, theta=parameters.theta * self._unit, fixed=parameters.fixed)

    def use(self, parameters):
        self._mpc.use(self.of(parameters))

    def retune(self, parameters, start):
        tuned = self._mpc.retune(self.of(parameters), self.of(start))
        return parameters.with_theta(tuned.theta / self._unit)

    def differentiate(self, solutions):
        derivative, unit = self._mpc.differentiate(solutions), self._unit

        class Derivative:
            state_gain = derivative.state_gain

            def jacobian(self):
                return derivative.jacobian() * unit

        return Derivative()


class Bench(RuleBench):
    """The reference vehicle, and the rule on top."""

    def __init__(self, more=0.0, scale=1.0, unit=None, **imperfections):
        reference = ReferenceFlight(steps=STEPS, **imperfections)
        costs = reference.objective
        names = ('state_weights', 'input_weights', 'terminal_weights', 'penalty')
        scaled = {name: scale * getattr(costs, name) for name in names}
        self.objective = Raised(**scaled, state_max=costs.state_max, more=more)
        self.mpc, self.start, self.fly = reference.mpc, reference.start, reference.flyer
        if unit is not None:
            self.mpc = InUnits(self.mpc, self.start, unit)
            parts = self.start.space.parts
            blocks = tuple(
                replace(
                    block,
                    lower=block.lower / unit[parts[block.name]][0],
                    upper=block.upper / unit[parts[block.name]][0],
                    scale=1 / unit[parts[block.name]][0],
                )
                if block.learnable
                else block
                for block in self.start.space.blocks
            )
            theta = self.start.theta / unit
            self.start = replace(self.start, space=ParameterSpace(blocks), theta=theta)
            self.fly = replace(self.fly, policy=self.mpc)
        surrogate = partial(Surrogate, reference.mpc.model, costs.state_max)
        known = self.mpc, self.objective, self.start, surrogate, 1
        self.rule = TrustRegionRule(
            self.start, partial(RehearsedModel, *known, 2, True), Settings()
        )


def costs(history):
    return np.array([step.nominal.outcome.J for _, step in history])


def test_a_handful_of_flights_take_most_of_the_violation_away():
    history = Bench().run(6)
    assert [len(requests) for requests, _ in history] == [4, 1, 1, 1, 1, 1]  # three probes
    assert costs(history)[0] > 1195
    assert history[-1][1].details['best_J'] < 1102


def test_the_best_is_the_lowest_cost_flown_where_there_is_no_noise():
    history = Bench().run(8)
    J = costs(history)
    for k, (_, step) in enumerate(history):
        assert step.details['best_J'] == J[: k + 1].min() == J[step.details['best_k']]
        assert step.accepted == (step.details['best_k'] == k)
        assert step.accepted or step.reason
    # Flights without noise are the case in which nothing weighs but they.
    assert all(step.details['share_of_flights'] == 1.0 for _, step in history[1:])


def test_a_run_that_goes_on_from_its_memory_is_the_same_run():
    whole = Bench().run(5)
    _, step = Bench().iterate(3, whole[2][1].next, whole[2][1].memory)
    assert np.array_equal(step.next_theta, whole[3][1].next_theta)
    assert step.details == whole[3][1].details


def test_a_flight_that_breaks_the_promise_shrinks_the_region_and_is_not_kept():
    bench = Bench()
    first, second = bench.run(2)

    def worse(evaluation):
        J = first[1].nominal.outcome.J + 1
        return replace(evaluation, outcome=Outcome(J, 0.0, J))

    _, step = bench.iterate(2, second[1].next, second[1].memory, change=worse)
    assert not step.accepted
    assert step.details['ratio'] < 0
    assert step.details['radius'] == SHRINK * second[1].memory['progress_radius']
    assert step.details['best_k'] == 1


@pytest.mark.parametrize('otherwise', [{'more': 5e3}, {'scale': 64.0}], ids=['added', 'scaled'])
def test_adding_to_the_cost_and_scaling_it_change_nothing(otherwise):
    plain, other = Bench().run(3), Bench(**otherwise).run(3)
    for (_, step), (_, same) in zip(plain, other, strict=True):
        np.testing.assert_allclose(same.next_theta, step.next_theta, rtol=1e-4, atol=1e-4)


def test_the_units_of_blocks_change_nothing():
    start = ReferenceFlight(steps=STEPS).start
    unit = np.ones(start.theta.size)
    unit[start.space.parts['q']], unit[start.space.parts['p']] = 128.0, 1 / 32
    plain, other = Bench().run(3), Bench(unit=unit).run(3)
    for (_, step), (_, same) in zip(plain, other, strict=True):
        np.testing.assert_allclose(same.next_theta * unit, step.next_theta, rtol=1e-4, atol=1e-4)


def test_noisy_flights_and_the_surrogate_both_weigh_and_only_proof_is_kept():
    bench = Bench(**NOISE)
    history = bench.run(5)
    shares = [step.details['share_of_flights'] for _, step in history[1:]]
    assert all(0 < share < 1 for share in shares)
    for _, step in history[1:]:
        assert step.details['trust'] == 1 - step.details['share_of_flights']
    assert history[-1][1].details['best_k'] > 0
    quiet = Bench()  # what the weights cost without noise
    best = history[history[-1][1].details['best_k']][0][0].parameters
    flight = quiet.fly(replace(FlightRequest(best, NOMINAL), number=0))
    assert quiet.objective.cost(flight).J < 1150


def test_a_noisy_candidate_flies_again_while_its_gain_is_undecided():
    bench = Bench(**NOISE)
    first, second = bench.run(2)
    spread = math.sqrt(second[1].memory['progress_squares'] / second[1].memory['progress_freedom'])
    level = second[1].memory['incumbent_numbers'][1]
    # The surrogate is made a poor witness, so that flights have to tell.
    memory = {**second[1].memory, 'progress_error': 1e6, 'progress_judged': 1.0}

    def measured(J):
        return lambda evaluation: replace(evaluation, outcome=Outcome(J, 0.0, J))

    clear = bench.iterate(2, second[1].next, memory, change=measured(level - 9 * spread))
    unclear = bench.iterate(2, second[1].next, memory, change=measured(level - 1.3 * spread))
    assert len(clear[0]) == 1
    assert clear[1].accepted
    assert 1 < len(unclear[0]) <= 2 * Settings().repeats
    assert first[1].details['best_k'] == 0


@pytest.mark.parametrize(
    ('value', 'deviation', 'decided'), [(-1.0, 0.0, True), (-2.0, 1.0, True), (-1.0, 1.0, False)]
)
def test_a_difference_is_decided_at_its_level(value, deviation, decided):
    difference = Difference(value, deviation, 0.5)
    assert difference.decided(0.05) == decided
    assert difference.probability > 0.8
    assert difference.hope >= -value  # what is gained at least, when only gains are kept


def test_a_step_ends_inside_the_region_or_on_its_boundary():
    rng = np.random.default_rng(3)
    root = rng.standard_normal((9, 6))
    hessian = root.T @ root
    model = CompositeModel(
        -hessian @ np.arange(1.0, 7.0), hessian, np.array([-0.2]), rng.standard_normal((1, 6)), 3.0
    )
    theta, scale = np.ones(6), np.sqrt(model.scale)
    free, boundary = step_within(model, 100.0, theta)
    assert not boundary
    for radius in (0.01, 0.3):
        d, boundary = step_within(model, radius, theta)
        assert boundary
        assert np.linalg.norm(scale * d) == pytest.approx(
            radius * np.linalg.norm(scale * theta), rel=NEAR
        )
        assert model.change(free) < model.change(d) < 0
