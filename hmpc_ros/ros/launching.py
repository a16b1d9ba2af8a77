"""Turns the plain data of `hmpc_ros.ros.graph` into actions of ``ros2 launch``.

The only module that imports launch, for the launch files alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.spinning import END_WITH_PARENT

RESPAWN_DELAY = 2.0  # s


def flag(name: str, default: bool, description: str) -> DeclareLaunchArgument:
    """Declare a launch argument that is true or false."""
    return DeclareLaunchArgument(
        name,
        default_value='true' if default else 'false',
        choices=['true', 'false'],
        description=description,
    )


#: Arguments that every launch file has.
COMMON = (
    flag('use_sim_time', False, 'let controller and visualizer read their clock from /clock'),
    DeclareLaunchArgument('namespace', default_value='', description='namespace of all nodes'),
    flag('rviz', False, 'start RViz'),
)


def describe(
    arguments: Sequence[DeclareLaunchArgument],
    specify: Callable[[Mapping[str, str]], Sequence[NodeSpec]],
) -> LaunchDescription:
    """Return the description that starts what ``specify`` says for the arguments' values."""

    def start(context: LaunchContext) -> list[Action]:
        given = {
            argument.name: LaunchConfiguration(argument.name).perform(context)
            for argument in arguments
        }
        specs = specify(given)
        for spec in specs:  # before anything is started: launch leaves to itself what runs already
            _refuse_missing(spec, context)
        return [action for spec in specs for action in _actions(spec)]

    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def _refuse_missing(spec: NodeSpec, context: LaunchContext) -> None:
    """Raise RuntimeError when the program of a node is not installed."""
    try:
        ExecutableInPackage(spec.executable, spec.package).perform(context)
    except Exception as error:  # of several modules of launch and ament_index
        distribution = os.environ.get('ROS_DISTRO', '$ROS_DISTRO')
        package = spec.package.replace('_', '-')
        install = f'install ros-{distribution}-{package}, or leave it out'
        if spec.package == 'hmpc_ros':
            install = 'build the package and source its workspace again'
        raise RuntimeError(
            f'nothing was started: {spec.executable} of the package {spec.package} is not here '
            f'({error}); {install}'
        ) from error


def _actions(spec: NodeSpec) -> list[Action]:
    node = Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[*map(str, spec.parameter_files), dict(spec.parameters)],
        remappings=list(spec.remappings),
        arguments=list(spec.arguments),
        output='screen',
        additional_env={END_WITH_PARENT: '1'},
        respawn=spec.respawn,
        respawn_delay=RESPAWN_DELAY,
    )
    if spec.respawn:
        return [node]
    stop = EmitEvent(event=Shutdown(reason=f'{spec.name} has ended'))
    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[stop]))]
