"""What decides a policy's commands, as one object of named blocks."""

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.learning.results import recorded, to_record
from hmpc_ros.policy.linear.weights import SPACE, parameters_of
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace
from hmpc_ros.policy.tracking.parameters import SPACE as TRACKING
from hmpc_ros.policy.tracking.parameters import TrackingParameters

SMALL = ParameterSpace(
    (
        Block('gain', (2, 2), 0.0, [[1.0, 2.0], [3.0, 4.0]], scale=0.1, unit='1/s'),
        Block('model', (3,), learnable=False),
        Block('lag', (1,), -1.0, 1.0),
    )
)


def small():
    return Parameters(SMALL, np.arange(5.0) / 10, {'model': np.array([7.0, 8.0, 9.0])})


@pytest.mark.parametrize('space', [SMALL, SPACE, TRACKING])
def test_theta_is_the_learnable_blocks_in_their_order_and_back(space):
    theta = np.random.default_rng(0).uniform(space.lower, space.upper)
    blocks = space.unpack(theta)
    assert list(blocks) == [block.name for block in space.blocks if block.learnable]
    assert np.array_equal(space.pack(blocks), theta)
    assert theta.size == space.size == space.scale.size


def test_range_and_scale_of_every_entry_are_its_blocks():
    assert SMALL.lower.tolist() == [0.0, 0.0, 0.0, 0.0, -1.0]
    assert SMALL.upper.tolist() == [1.0, 2.0, 3.0, 4.0, 1.0]
    assert SMALL.scale.tolist() == [0.1, 0.1, 0.1, 0.1, 1.0]
    assert SMALL.project(np.full(5, 2.5)).tolist() == [1.0, 2.0, 2.5, 2.5, 1.0]


def test_numbers_that_make_no_policy_are_refused():
    with pytest.raises(ValueError, match='theta needs 5 numbers'):
        small().with_theta(np.zeros(4))
    with pytest.raises(ValueError, match='model needs 3 numbers, not 2'):
        small().with_fixed({'model': [1.0, 2.0]})
    with pytest.raises(ValueError, match='gain needs 4 numbers, not 3'):
        SMALL.pack({'gain': [1.0, 2.0, 3.0], 'lag': [0.0]})


def test_a_record_holds_all_of_a_policy_that_its_start_does_not():
    start = small()
    same, other = start.with_theta(np.ones(5)), start.with_fixed({'model': [1.0, 2.0, 3.0]})
    assert 'fixed' not in to_record(start, same)
    for policy in (same, other):
        again = recorded(start, to_record(start, policy, 'next_'), 'next_')
        assert np.array_equal(again.theta, policy.theta)
        assert not again.fixed_beside(policy.fixed)


def test_blocks_that_somebody_has_already_are_empty_for_him():
    policy = small()
    assert policy.entries(policy.fixed)['model'] == []
    assert policy.entries({'model': np.zeros(3)})['model'] == [7.0, 8.0, 9.0]
    assert policy.entries(policy.fixed)['gain'] == [0.0, 0.1, 0.2, 0.3]


def test_a_policy_flies_what_it_is_told_to_use_the_model_included():
    reference = ReferenceFlight()
    start, x = reference.mpc.parameters, np.linspace(-0.3, 0.3, 12)
    plain = reference.mpc.solve_deviation(x).input
    entries = reference.model.entries * 1.01
    reference.mpc.use(start.with_theta(1.1 * start.theta).with_fixed({'model': entries}))
    assert np.array_equal(reference.mpc.model.entries, entries)
    assert np.array_equal(reference.mpc.weights.theta, 1.1 * start.theta)
    assert np.abs(reference.mpc.solve_deviation(x).input - plain).max() > 1e-3
    reference.mpc.mpc.set_model(reference.model)  # whoever else changes it is noticed
    reference.mpc.use(start.with_fixed({'model': entries}))
    assert np.array_equal(reference.mpc.model.entries, entries)
    reference.mpc.use(parameters_of(reference.weights, reference.model))
    assert np.array_equal(reference.mpc.solve_deviation(x).input, plain)


def test_the_tracking_mpc_names_its_theta_by_the_same_blocks():
    parameters = TrackingParameters()
    named = TRACKING.unpack(parameters.theta)
    assert all(np.array_equal(named[name], getattr(parameters, name)) for name in named)
    changed = TrackingParameters.from_theta(TRACKING.pack({**named, 'thrust_lag': [0.2]}))
    assert changed.thrust_lag.tolist() == [0.2]
