"""Parameter files mean the same here and to a ROS 2 node."""

import math
import random

import pytest
import rclpy
from rclpy.node import Node

from hmpc_ros import ros_yaml
from hmpc_ros.configuration import files
from hmpc_ros.configuration.weights_file import read_weights, write_weights

SCALARS = [
    '1e-1', '1e12', '1E+3', '-.5e-3', '1.e5', '1.0', '.5', '5.', '+.5', '-0', '0.0', '0e5',
    '0x10', '-0x10', '010', '-010', '09', '08.5', '1_000', '+5', '--1', '1e', '1e+', '.', 'yes',
    'YES', 'on', 'y', 'Y', 'n', 'no', 'NO', 'Off', 'oFF', 'True', 'TRUE', 'tRUE', 'false',
    'null', '~', 'Null', '"yes"', "'1e3'", '"1"', 'text', '1:30', '2001-01-01', '.inf', '.Inf',
    '-.inf', '+.inf', '.NaN', '.nan', '-.nan', 'inf', '-inf', 'Infinity', 'nan', 'nan(1)',
    '1d5', '0b11', '0o17', '0x', '0xeg', '0x1p3', '0x1.8', '0x8p-1', '0x0p0', '1e999', '-1e999',
    '1e-310', '1e-400', '2.2250738585072014e-308', '1.7976931348623157e308',
    '9223372036854775807', '9223372036854775808', '-9223372036854775808',
    '-9223372036854775809', '99999999999999999999', '0xffffffffffffffff',
    '0777777777777777777777777',
]  # fmt: skip


def _any_scalars(count):
    """Return numbers and what looks like them, the same ones each time."""
    chance = random.Random(0)
    near = [''.join(chance.choices('0123456789.eE+-xXp_aninf', k=chance.randint(1, 7)))
            for _ in range(count)]  # fmt: skip
    # YAML's own signs are for YAML's own rules; here it is about scalars.
    return [text for text in near if text not in ('-', '---', '...')]


def _as_a_node_reads(path):
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '--params-file', str(path)])
    try:
        node = Node(
            'reader', context=context, enable_rosout=False, start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )  # fmt: skip
        return {name: value.value for name, value in node.get_parameters_by_prefix('v').items()}
    finally:
        rclpy.shutdown(context=context)


def test_every_scalar_is_read_as_a_node_reads_it(tmp_path):
    scalars = SCALARS + _any_scalars(2000)
    lines = [f'    v.n{i}: {text}' for i, text in enumerate(scalars)]
    path = tmp_path / 'p.yaml'
    path.write_text('\n'.join(['reader:', '  ros__parameters:', *lines]) + '\n')
    theirs = _as_a_node_reads(path)
    ours = ros_yaml.read(path.read_text())['reader']['ros__parameters']
    differ = {
        text: (theirs[f'n{i}'], ours[f'v.n{i}'])
        for i, text in enumerate(scalars)
        if repr(theirs[f'n{i}']) != repr(ours[f'v.n{i}'])
    }
    assert not differ


@pytest.mark.parametrize('text', ['1e-1', '0x1p-3', '1e12'])
def test_a_file_and_an_override_take_the_numbers_of_ros(text, tmp_path):
    path = tmp_path / 'run.yaml'
    path.write_text(
        'learner:\n  ros__parameters:\n    seed: 010\n'
        'controller:\n  ros__parameters:\n    state_timeout: 5e-1\n'
    )
    assert ros_yaml.scalar(text) == {'1e-1': 0.1, '0x1p-3': 0.125, '1e12': 1e12}[text]
    configuration = files.load(path)
    assert configuration['learner']['seed'] == 8
    assert configuration['controller']['state_timeout'] == 0.5
    weight = files.load(None, [f'controller.policy.q=[{", ".join([text] * 12)}]'])
    assert weight['controller']['policy.q'] == [ros_yaml.scalar(text)] * 12


@pytest.mark.parametrize(
    'text', ['1e5', '0123', 'yes', '', '12e4567890123456', 'null', 'a: b', '1']
)
def test_text_is_written_so_that_it_is_read_as_text(text):
    assert ros_yaml.read(ros_yaml.write({'a': [text], 'b': text})) == {'a': [text], 'b': text}


def test_numbers_are_written_so_that_they_are_read_to_the_last_bit():
    numbers = [0.1, 1e-5, 1e22, -2.5e-300, 1.0, 3, -7, math.inf, True]
    read = ros_yaml.read(ros_yaml.write(numbers))
    assert list(map(repr, read)) == list(map(repr, numbers))


def test_a_model_whose_name_looks_like_a_number_keeps_its_weights(tmp_path):
    policy = {'policy.q': [1.0] * 12, 'policy.r': [1.0] * 4, 'policy.p': [1.0] * 78}
    for identity in ('123456789012', '12345678e012', '012345670123'):
        write_weights(tmp_path / 'w.yaml', policy, identity, 12)
        assert read_weights(tmp_path / 'w.yaml', identity, 12)['policy.q'] == [1.0] * 12
