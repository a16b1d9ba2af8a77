"""The default rule: it learns in a few flights, proves what it keeps, and units do not matter."""

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
from hmpc_ros.learning.requests import NOMINAL, Evaluation, FlightRequest
from hmpc_ros.learning.rollout import Task
from hmpc_ros.learning.trust_region import Settings, TrustRegionRule
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.weights import Weights
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
    """The reference vehicle under an MPC whose model may be wrong, and the rule on top."""

    def __init__(
        self,
        model=None,
        tasks=(),
        settings=None,
        steps=STEPS,
        more=0.0,
        scale=1.0,
        unit=None,
        **imperfections,
    ):
        reference = ReferenceFlight(steps=steps, **imperfections)
        costs = reference.objective
        names = ('state_weights', 'input_weights', 'terminal_weights', 'penalty')
        scaled = {name: scale * getattr(costs, name) for name in names}
        self.objective = Raised(**scaled, state_max=costs.state_max, more=more)
        self.mpc, self.start = reference.mpc, reference.start
        if model is not None:
            self.mpc.set_model(model)
            q, r = np.sqrt(costs.state_weights), np.sqrt(costs.input_weights)
            self.mpc.set_weights(Weights.for_model(model, q, r))
            self.start = replace(self.mpc.parameters, space=self.start.space)
        self.fly = replace(reference.flyer, tasks=tasks or reference.flyer.tasks)
        believed = self.mpc.model
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
        settings, count = settings or Settings(), max(1, len(tasks))
        surrogate = partial(Surrogate, believed, costs.state_max)
        known = self.mpc, self.objective, self.start, surrogate, count
        rehearsed = partial(RehearsedModel, *known, settings.rehearsals, settings.refit)
        self.rule = TrustRegionRule(self.start, rehearsed, settings, count)


def scaled_inputs(factor):
    model = ReferenceFlight().model
    return LinearModel(model.A, factor * model.B, model.c, model.time_step, model.hover_input)


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


@pytest.mark.parametrize('factor', [0.6, 1.6])
def test_a_wrong_model_hardly_matters(factor):
    assert Bench(scaled_inputs(factor)).run(10)[-1][1].details['best_J'] < 1110


def test_the_model_of_the_mpc_is_changed_only_where_that_is_allowed():
    wrong = scaled_inputs(1.6)
    free = Bench(wrong).run(3)
    start = free[0][0][0].parameters
    assert any(requests[0].parameters.fixed_beside(start.fixed) for requests, _ in free)
    fixed = Bench(wrong, settings=Settings(refit=False)).run(5)
    flown = [request.parameters for requests, _ in fixed for request in requests]
    assert not any(parameters.fixed_beside(start.fixed) for parameters in flown)


def test_memory_is_numbers_words_and_arrays_of_constant_size():
    sizes = set()
    for _, step in Bench().run(5)[2:]:
        assert all(
            isinstance(value, np.ndarray | float | int | str | bool)
            for value in step.memory.values()
        )
        sizes.add(sum(v.size for v in step.memory.values() if isinstance(v, np.ndarray)))
    # Base and incumbent are the same flight or two; nothing else may differ.
    assert max(sizes) < 1.5 * min(sizes)


def cut(evaluation, step):
    """Return a flight that somebody cut short."""
    flight = replace(
        evaluation.flight,
        states=evaluation.flight.states[: step + 1],
        inputs=evaluation.flight.inputs[:step],
        solutions=(),
        ended=f'cut short at step {step}',
    )
    return Evaluation(evaluation.request, flight, Outcome(np.inf, np.inf, np.inf))


def test_a_failed_flight_is_no_reason_to_stop():
    bench = Bench()
    policy, memory = bench.start, {}
    for k in range(4):
        change = partial(cut, step=30) if k == 2 else lambda evaluation: evaluation
        _, step = bench.iterate(k, policy, memory, change)
        policy, memory = step.next, step.memory
        if k == 2:
            assert not step.accepted
            assert step.reason == 'cut short at step 30'
    assert step.details['best_J'] < 1140


def test_a_start_that_does_not_fly_is_rescued_by_what_its_crash_taught():
    # With the wrong sign in how the roll rate turns the vehicle, the first flight runs away.
    model = ReferenceFlight().model
    A = model.A.copy()
    A[6, 9] *= -1
    history = Bench(LinearModel(A, model.B, model.c, model.time_step, model.hover_input)).run(6)
    assert not history[0][1].nominal.outcome.finite
    assert not history[0][1].accepted
    assert history[-1][1].details['best_J'] < 2000


def test_where_nothing_flies_the_run_ends_with_a_reason():
    history = Bench().run(20, change=partial(cut, step=2))
    assert len(history) == Settings().repeats
    assert history[-1][1].diverged
    assert history[-1][1].reason == 'nothing was found that flies: cut short at step 2'


def test_several_tasks_are_flown_each_and_count_alike():
    tasks = tuple(
        Task(Goal(position), (0.0,) * 12) for position in ((-6.0, -3.5, 0.0), (4.0, 2.0, -1.0))
    )
    history = Bench(tasks=tasks).run(3)
    requests, step = history[-1]
    assert [request.task for request in requests] == [0, 1]
    assert {request.purpose for request in requests} == {NOMINAL}
    assert np.array_equal(requests[0].theta, requests[1].theta)
    assert step.details['best_J'] < 0.95 * history[0][1].nominal.outcome.J
    assert [request.task for request in history[0][0]] == [0, 1, 0, 1, 0]


def test_with_noise_what_the_flights_say_is_dearer_is_not_handed_over_on_the_models_word():
    bench = Bench(**NOISE)

    def dearer_away_from_the_start(evaluation):
        moved = np.linalg.norm(evaluation.theta - bench.start.theta) > 0.1
        outcome = evaluation.outcome
        return replace(evaluation, outcome=replace(outcome, J=outcome.J + 300.0 * moved))

    history = bench.run(5, change=dearer_away_from_the_start)
    assert not any(step.accepted for _, step in history[1:])
    assert {step.details['best_k'] for _, step in history} == {0}


@pytest.mark.parametrize('std', [0.0, 3e-3])
@pytest.mark.parametrize('kind', ['process_noise_std', 'measurement_noise_std'])
def test_noise_is_noticed_in_flights_that_never_hover_by_flying_one_of_them_twice(kind, std):
    bench = Bench(steps=30, **{kind: (std,) * 12})  # the goal is twice as far
    requests, step = bench.iterate(0, bench.start, {})
    assert len(requests) == 5  # the start, three probes, and the start again
    assert np.array_equal(requests[0].theta, requests[-1].theta)
    found = np.sqrt(step.memory['noise'])
    assert np.any(found > 1e-3) == (std > 0)
    if kind == 'process_noise_std' and std:
        assert np.exp(np.log(found).mean()) == pytest.approx(std, rel=0.3)  # of 27 differences


def test_theta_stays_in_the_box():
    bench = Bench()
    space, parts = bench.start.space, bench.start.space.unpack(bench.start.theta)
    close = [
        replace(b, lower=parts[b.name] - 0.3, upper=parts[b.name] + 0.3) if b.learnable else b
        for b in space.blocks
    ]
    bench.start = replace(bench.start, space=ParameterSpace(tuple(close)))
    for _, step in bench.run(4):
        assert np.abs(step.next_theta - bench.start.theta).max() <= 0.3 + 1e-12
