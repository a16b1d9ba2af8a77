"""Simulated quadcopter under the MPC: ``ros2 launch hmpc_ros simulation.launch.py``.

What is started is told by ``hmpc_ros.ros.graph``, which the local runner of ``hmpc fly`` reads too.
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hmpc_ros.ros.graph import NodeSpec, simulation

ARGUMENTS = [
    DeclareLaunchArgument(
        'config',
        default_value='wall_clock',
        description='ROS 2 parameter file, or a preset: reference, wall_clock, disturbed',
    ),
    DeclareLaunchArgument(
        'real_time_factor',
        default_value='',
        description='simulated over wall-clock time, 0: lockstep; empty: as in the parameter file',
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='false',
        choices=['true', 'false'],
        description='let controller and visualizer read their clock from /clock',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='namespace of all nodes'),
    DeclareLaunchArgument(
        'visualizer',
        default_value='true',
        choices=['true', 'false'],
        description='publish the flown path and markers',
    ),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'], description='start RViz'
    ),
]


def start(context: LaunchContext) -> list[Action]:
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS
    }
    parameters = {}
    if given['real_time_factor']:
        parameters['simulator'] = {'real_time_factor': float(given['real_time_factor'])}
    specs = simulation(
        given['config'],
        parameters,
        namespace=given['namespace'],
        use_sim_time=given['use_sim_time'] == 'true',
        visualizer=given['visualizer'] == 'true',
        rviz=given['rviz'] == 'true',
    )
    return [action for spec in specs for action in actions(spec)]


def actions(spec: NodeSpec) -> list[Action]:
    node = Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[*map(str, spec.parameter_files), dict(spec.parameters)],
        remappings=list(spec.remappings),
        arguments=list(spec.arguments),
        output='screen',
    )
    # A flight without its simulator or controller is none: end the rest, too.
    stop = EmitEvent(event=Shutdown(reason=f'{spec.name} has ended'))
    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[stop]))]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
