"""The vehicle tunes its own MPC: ``ros2 launch hmpc_ros learning.launch.py results:=DIRECTORY``.

What is started is told by ``hmpc_ros.ros.graph``, which ``hmpc learn`` reads too. A learner that
ends is started again and goes on with its results; nothing else ends with it.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hmpc_ros.ros.graph import NodeSpec, learning

ARGUMENTS = [
    DeclareLaunchArgument(
        'config',
        default_value='reference',
        description='ROS 2 parameter file, or a preset: reference, demo, ...',
    ),
    DeclareLaunchArgument(
        'results',
        default_value='build/learning',
        description='results folder; a run that is in it already is gone on with',
    ),
    DeclareLaunchArgument(
        'iterations', default_value='', description='in total; empty: as the parameter file says'
    ),
    DeclareLaunchArgument(
        'attach',
        default_value='false',
        choices=['true', 'false'],
        description='start the learner only, beside a controller and a vehicle that run already',
    ),
    DeclareLaunchArgument(
        'record',
        default_value='false',
        choices=['true', 'false'],
        description='record the topics to an MCAP file in the results folder',
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='false',
        choices=['true', 'false'],
        description='let the controller read its clock from /clock',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='namespace of all nodes'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'], description='start RViz'
    ),
]


def start(context: LaunchContext) -> list[Action]:
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS
    }
    values = {'results': os.path.abspath(given['results']), 'record': given['record'] == 'true'}  # noqa: PTH100
    if given['iterations']:
        values['iterations'] = int(given['iterations'])
    specs = learning(
        given['config'],
        {'learner': values},
        namespace=given['namespace'],
        use_sim_time=given['use_sim_time'] == 'true',
        rviz=given['rviz'] == 'true',
        only_learner=given['attach'] == 'true',
    )
    return [action for spec in specs for action in actions(spec)]


def actions(spec: NodeSpec) -> list[Action]:
    learner = spec.name == 'learner'
    node = Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[*map(str, spec.parameter_files), dict(spec.parameters)],
        remappings=list(spec.remappings),
        arguments=list(spec.arguments),
        output='screen',
        respawn=learner,
        respawn_delay=2.0,
    )
    if learner:
        return [node]
    # A flight without its simulator or controller is none: end the rest, too.
    stop = EmitEvent(event=Shutdown(reason=f'{spec.name} has ended'))
    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[stop]))]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
