"""What is started, as plain data."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hmpc_ros.cli.autopilot import ADAPTERS
from hmpc_ros.ros.graph import (
    NodeSpec,
    find_config,
    learning,
    parameter_text,
    simulation,
    vehicle,
)

ROOT = Path(__file__).parents[2]


def test_a_simulation_is_a_simulator_and_a_controller():
    nodes = simulation()
    assert [node.name for node in nodes] == ['simulator', 'controller']
    assert all(node.parameter_files[0].name == 'reference.yaml' for node in nodes)
    assert all(node.module == f'hmpc_ros.ros.{node.executable}_node' for node in nodes)


def test_a_vehicle_that_tracks_starts_on_its_path_and_is_the_one_that_is_assumed():
    given = {
        'simulator': {'preset': 'hummingbird'},
        'controller': {'reference.kind': 'circle', 'reference.yaw': 'path'},
    }
    simulator, controller = simulation('tracking', given)
    assert controller.parameters['preset'] == 'hummingbird'
    start = simulator.parameters['initial_state']
    assert start[:3] == pytest.approx([1.5, 0.0, 1.0])
    assert start[8] == pytest.approx(math.pi / 2)
    elsewhere = [1.0] * 3 + [0.0] * 9
    given['simulator']['initial_state'] = elsewhere
    assert simulation('tracking', given)[0].parameters['initial_state'] == elsewhere


def test_rviz_brings_the_visualizer_and_the_view():
    nodes = {node.name: node for node in simulation(rviz=True)}
    assert set(nodes) == {'simulator', 'controller', 'visualizer', 'rviz'}
    assert Path(nodes['rviz'].arguments[1]).is_file()
    assert nodes['rviz'].package == 'rviz2'


@pytest.mark.parametrize(
    'graph', [simulation(web=True), learning(web=True), vehicle('mavlink_adapter', web=True)]
)
def test_the_live_page_is_one_of_the_processes_and_may_end(graph):
    page = next(node for node in graph if node.name == 'web')
    assert page.optional
    assert page.module == 'hmpc_ros.ros.web_node'
    assert not any(node.optional for node in graph if node is not page)


LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))


@pytest.mark.parametrize('file', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_launch_file_can_start_the_live_page(file):
    text = file.read_text('utf-8')
    assert 'describe_adapter(' in text or "web=given['web'] == 'true'" in text


def test_simulation_time_is_for_all_but_the_simulator():
    nodes = {node.name: node for node in simulation(use_sim_time=True, visualizer=True)}
    assert nodes['controller'].parameters == {'use_sim_time': True}
    assert nodes['visualizer'].parameters == {'use_sim_time': True}
    assert nodes['simulator'].parameters == {}


def test_in_a_namespace_the_files_values_are_given_one_by_one():
    controller = simulation('disturbed', namespace='/drone_1')[1]
    assert controller.parameter_files == ()
    assert controller.parameters['goal.position'] == [-6.0, -3.5, 0.0]
    assert controller.parameters['limits.rotor_max'] == 650.0
    assert 'horizon' not in controller.parameters


@pytest.mark.parametrize('namespace', ['/', '/drone_1', '/fleet/drone_1'])
def test_a_preset_reaches_the_node_in_any_namespace(namespace: str):
    rclpy = pytest.importorskip('rclpy')
    from rclpy.node import Node

    context = rclpy.Context()
    arguments = ['--ros-args', '-r', f'__ns:={namespace}']
    rclpy.init(args=[*arguments, '--params-file', str(find_config('disturbed'))], context=context)
    node = Node(
        'controller', context=context, automatically_declare_parameters_from_overrides=True
    )
    try:
        assert node.get_parameter('limits.rotor_max').value == 650.0
    finally:
        node.destroy_node()
        context.try_shutdown()


def test_arguments_say_everything_to_rclpy(tmp_path: Path):
    spec = NodeSpec(
        executable='simulator',
        module='x',
        name='simulator',
        namespace='drone_1',
        parameter_files=(tmp_path / 'a.yaml',),
        parameters={'real_time_factor': 2.0},
        remappings=(('odom', 'state'),),
    )
    assert spec.ros_arguments() == [
        '--ros-args',
        *('-r', '__node:=simulator'),
        *('-r', '__ns:=/drone_1'),
        *('-r', 'odom:=state'),
        *('--params-file', str(tmp_path / 'a.yaml')),
        *('-p', 'real_time_factor:=2.0'),
    ]


@pytest.mark.parametrize(
    'value',
    [
        True,
        False,
        7,
        1.0,
        1e-5,
        3.5e20,
        -0.25,
        'hover',
        "it's",
        '1.0',
        'true',
        '',
        [1.0, 2.0, 1e-7],
    ],
)
def test_parameter_text_keeps_value_and_type(value: object):
    read = yaml.safe_load(parameter_text(value))
    if isinstance(value, float) and isinstance(read, str):
        read = float(read)  # PyYAML wants a point in 1e-05, rcl does not
    if isinstance(value, list):
        read = [float(entry) for entry in read]
    assert read == value
    assert type(read) is type(value)


def test_presets_are_found_by_name_and_files_by_path(tmp_path: Path):
    assert find_config('disturbed') == find_config('disturbed.yaml')
    mine = tmp_path / 'mine.yaml'
    mine.write_text('{}')
    assert find_config(mine) == mine


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r'presets: .*disturbed.*reference'):
        find_config('refrence')


def test_the_graph_is_read_without_ros():
    code = (
        'import sys, hmpc_ros.ros.graph as g; g.simulation(); '
        'sys.exit(any(m in sys.modules for m in ("rclpy", "launch")))'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.parametrize('adapter', ADAPTERS)
def test_a_vehicle_is_flown_by_its_adapter_and_the_controller(adapter: str):
    nodes = vehicle(adapter, parameters={adapter: {'hover_throttle': 0.5}}, namespace='one')
    assert [node.name for node in nodes] == ['controller', adapter]
    assert nodes[1].parameters['hover_throttle'] == 0.5
    assert nodes[0].parameters['policy.kind'] == 'tracking'  # from the file, in a namespace too
