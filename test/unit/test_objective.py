from dataclasses import replace

import numpy as np
import pytest

from hmpc_ros.learning.objective import Objective
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits

OBJECTIVE = Objective(
    np.repeat([1.0, 0.1], 6),
    np.full(4, 0.01),
    np.repeat([1.0, 1000.0, 1.0], [6, 3, 3]),
    300.0,
    state_max=Limits().state_max,
)


def flight(states, inputs=None, **kwargs):
    inputs = np.zeros((len(states) - 1, 4)) if inputs is None else inputs
    return Flight(np.asarray(states, float), inputs, Goal((0, 0, 0)), np.zeros(4), **kwargs)


def random_flight(seed, scale=1.0, steps=7):
    rng = np.random.default_rng(seed)
    states = scale * rng.standard_normal((steps + 1, 12))
    return flight(states, rng.standard_normal((steps, 4)))


def test_cost_is_the_sum_written_out():
    x = np.zeros((3, 12))
    x[0, 0], x[1, 3], x[2, 6] = 2.0, 3.0, 0.5
    u = np.array([[1.0, 0, 0, 0], [0, 2.0, 0, 0]])
    outcome = OBJECTIVE.cost(flight(x, u))
    assert outcome.C == pytest.approx(2.0**2 + 3.0**2 + 0.01 * (1 + 4) + 1000 * 0.25)
    assert outcome.V == pytest.approx(1.0)  # 3 m/s against 2 m/s; 0.5 rad is within pi/4
    assert outcome.J == pytest.approx(outcome.C + 300 * outcome.V)


def test_a_state_on_its_bound_has_neither_violation_nor_slope():
    x = np.zeros((2, 12))
    x[0, 3] = 2.0
    assert OBJECTIVE.cost(flight(x)).V == 0
    dx, _ = OBJECTIVE.derivatives(flight(x))
    assert dx[0, 3] == 2 * 2.0  # of the tracking cost alone
    x[0, 3] = -np.nextafter(2.0, 3.0)
    dx, _ = OBJECTIVE.derivatives(flight(x))
    assert dx[0, 3] == pytest.approx(-4 - 300)


def test_derivatives_are_those_of_the_cost():
    base = random_flight(0)
    dx, du = OBJECTIVE.derivatives(base)
    rng = np.random.default_rng(1)
    for _ in range(10):
        vx, vu = rng.standard_normal(base.states.shape), rng.standard_normal(base.inputs.shape)
        h = 1e-7
        ends = [
            OBJECTIVE.cost(flight(base.states + s * h * vx, base.inputs + s * h * vu)).J
            for s in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(
            np.sum(dx * vx) + np.sum(du * vu), rel=1e-6
        )


@pytest.mark.parametrize(
    'spoiled', [{'planned_steps': 8}, {'ended': 'cut short'}], ids=['a step short', 'cut short']
)
def test_a_flight_that_is_not_whole_costs_infinity(spoiled):
    outcome = OBJECTIVE.cost(replace(random_flight(2), **spoiled))
    assert outcome.J == np.inf
    assert not outcome.finite


def test_a_flight_with_a_state_that_is_not_finite_costs_infinity():
    x = np.zeros((4, 12))
    x[2, 5] = np.nan
    assert OBJECTIVE.cost(flight(x)).J == np.inf


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('state_weights', np.ones(11)),
        ('input_weights', np.array([1, 1, 1, -1.0])),
        ('terminal_weights', np.full(12, np.nan)),
        ('state_max', np.zeros(9)),
        ('penalty', -1.0),
    ],
)
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name.split('_')[0]):
        replace(OBJECTIVE, **{name: value})
