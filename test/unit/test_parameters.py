"""A configuration table as the parameters of a ROS node."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from hmpc_ros.configuration.schema import Parameter, table
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.ros.parameters import NodeParameters

TABLE = table(
    Parameter('low', 0.0, 'lower end', 'rad/s', lower=0.0, upper=100.0),
    Parameter('high', 10.0, 'upper end', 'rad/s', lower=0.0, upper=100.0),
    Parameter('weights', [1.0, 2.0], 'two weights', length=2, lower=0.0),
    Parameter('extra', [], 'computed when empty', length=3, may_be_empty=True),
    Parameter('steps', 3, 'how many', lower=1),
    Parameter('kind', 'a', 'which', choices=('a', 'b')),
    Parameter('fixed', 5, 'cannot change in flight', read_only=True),
)


@pytest.fixture
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def make(context):
    """Start a node with overrides; it records what was applied, in order."""
    nodes = []

    def prepare(values):
        if values['low'] >= values['high']:
            raise ValueError(f'low = {values["low"]} must be below high = {values["high"]}')
        return values

    def start(**overrides):
        node = Node(
            f'node_{len(nodes)}',
            context=context,
            parameter_overrides=[RosParameter(name, value=v) for name, v in overrides.items()],
        )
        nodes.append(node)
        applied = []
        parameters = NodeParameters(node, TABLE, prepare, applied.append)
        return SimpleNamespace(node=node, parameters=parameters, applied=applied)

    yield start
    for node in nodes:
        node.destroy_node()


def setting(**values):
    return [RosParameter(name, value=value) for name, value in values.items()]


def as_ros_sees_it(started):
    return {name: _plain(started.node.get_parameter(name).value) for name in TABLE}


def _plain(value):
    return value if isinstance(value, (int, float, str)) else list(value)


def test_defaults_are_declared_with_type_range_unit_and_description(make):
    started = make()
    assert as_ros_sees_it(started) == started.parameters.values
    assert started.parameters['weights'] == [1.0, 2.0]
    low, weights, extra, steps, fixed = started.node.describe_parameters(
        ['low', 'weights', 'extra', 'steps', 'fixed']
    )
    assert low.type == ParameterType.PARAMETER_DOUBLE
    assert low.description == 'lower end [rad/s]'
    assert (low.floating_point_range[0].from_value, low.floating_point_range[0].to_value) == (
        0,
        100,
    )
    assert weights.type == extra.type == ParameterType.PARAMETER_DOUBLE_ARRAY
    assert weights.additional_constraints == '2 values; each from 0 to inf'
    assert extra.additional_constraints == '3 values or none'
    assert extra.description == 'computed when empty'
    assert steps.integer_range[0].from_value == 1
    assert fixed.read_only
    assert not low.read_only


@pytest.mark.parametrize('name', list(TABLES))
def test_every_table_of_the_package_can_be_declared(context, name):
    node = Node(f'with_table_of_{name}', context=context)
    parameters = NodeParameters(node, TABLES[name], lambda values: values, lambda _values: None)
    assert parameters.values == {n: p.validate(p.default) for n, p in TABLES[name].items()}
    node.destroy_node()


def test_values_given_at_start_win_and_integers_are_taken_for_floats(make):
    started = make(high=20, weights=[3, 4], extra=[1.0, 2.0, 3.0], fixed=7)
    assert started.parameters['high'] == 20.0
    assert started.parameters['weights'] == [3.0, 4.0]
    assert started.parameters['fixed'] == 7
    assert as_ros_sees_it(started) == started.parameters.values
    assert started.node.get_parameter('high').type_ == RosParameter.Type.DOUBLE


def test_refused_values_at_start_are_all_named(make):
    with pytest.raises(ValueError, match=r'weights needs 2 values, got 3; kind must be one of'):
        make(weights=[1.0, 2.0, 3.0], kind='c')
    with pytest.raises(ValueError, match=r'low = 50.0 must be below high = 10.0'):
        make(low=50.0)


def test_an_atomic_request_is_applied_once_and_whole(make):
    started = make()
    result = started.node.set_parameters_atomically(
        setting(low=20.0, high=30.0, weights=[5.0, 6.0])
    )
    assert result.successful, result.reason
    assert len(started.applied) == 1
    assert started.applied[0] == started.parameters.values == as_ros_sees_it(started)
    assert started.parameters['low'] == 20.0


@pytest.mark.parametrize(
    ('request_', 'reason'),
    [
        ({'high': 30.0, 'weights': [1.0]}, 'weights needs 2 values, got 1'),
        ({'high': 30.0, 'weights': [1.0, float('nan')]}, 'weights must be finite'),
        ({'high': 30.0, 'weights': [1.0, -1.0]}, 'weights must be at least 0'),
        ({'high': 30.0, 'kind': 'c'}, 'kind must be one of a, b'),
        ({'high': 30.0, 'low': 40.0}, 'low = 40.0 must be below high = 30.0'),
        ({'high': 30.0, 'low': float('nan')}, 'low must be finite'),
        ({'high': 30.0, 'low': -1.0}, 'low must be at least 0 rad/s, got -1.0'),
        ({'high': 30.0, 'fixed': 6}, 'read-only parameter: fixed'),
        ({'high': 30.0, 'steps': 'many'}, "steps needs an integer, got 'many'"),
        ({'high': 30.0, 'weights': 1.0}, 'weights needs a list, got 1.0'),
    ],
)
def test_a_request_with_one_bad_value_changes_nothing_and_says_why(make, request_, reason):
    started = make()
    before = started.parameters.values
    result = started.node.set_parameters_atomically(setting(**request_))
    assert not result.successful
    assert reason in result.reason
    assert started.applied == []
    assert started.parameters.values == before == as_ros_sees_it(started)


def test_every_reason_of_a_refused_request_is_given(make):
    result = make().node.set_parameters_atomically(setting(weights=[1.0], kind='c'))
    assert 'weights needs' in result.reason
    assert 'kind must be' in result.reason


def test_a_plain_request_is_a_sequence_of_changes_of_one_value(make):
    started = make()
    first, second, third = started.node.set_parameters(setting(high=30.0, low=40.0, steps=4))
    assert first.successful
    assert not second.successful
    assert 'low = 40.0 must be below high = 30.0' in second.reason
    assert third.successful
    assert [values['high'] for values in started.applied] == [30.0, 30.0]
    assert started.parameters.values == as_ros_sees_it(started)
    assert started.parameters['low'] == 0.0


def test_integers_are_taken_for_floats_and_stored_as_floats(make):
    started = make()
    results = started.node.set_parameters(setting(high=30, weights=[7, 8]))
    assert all(result.successful for result in results), results
    assert as_ros_sees_it(started) == started.parameters.values
    assert type(started.node.get_parameter('high').value) is float


def test_an_empty_list_can_be_set_and_unset_again(make):
    started = make()
    for value in ([1.0, 2.0, 3.0], []):
        result = started.node.set_parameters_atomically(
            [RosParameter('extra', RosParameter.Type.DOUBLE_ARRAY, value)]
        )
        assert result.successful, result.reason
        assert started.parameters['extra'] == value


def test_a_value_set_to_what_it_is_changes_nothing(make):
    started = make()
    assert started.node.set_parameters_atomically(setting(high=10.0)).successful
    assert started.applied == []


def test_a_parameter_cannot_be_unset(make):
    started = make()
    result = started.node.set_parameters_atomically(
        [RosParameter('high', RosParameter.Type.NOT_SET)]
    )
    assert not result.successful
    assert 'high needs a number' in result.reason
    assert started.node.get_parameter('high').value == 10.0


def test_a_refusal_does_not_outlive_its_request(make):
    started = make()
    # rclpy refuses this one by itself, after our check has found another reason.
    assert not started.node.set_parameters_atomically(setting(kind='c', fixed=6)).successful
    started.node.declare_parameter('of_someone_else', 1.0)
    assert started.node.set_parameters_atomically(setting(high=30.0)).successful


def test_a_misspelt_parameter_is_warned_of(make, capfd):
    make(wieghts=[1.0, 2.0])
    assert 'wieghts' in capfd.readouterr().err
