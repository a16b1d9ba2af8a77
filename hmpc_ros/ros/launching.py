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

from hmpc_ros.ros.graph import NodeSpec, vehicle
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


NAMESPACE = DeclareLaunchArgument(
    'namespace', default_value='', description='namespace of all nodes'
)

WEB = flag('web', False, 'serve the live page at http://127.0.0.1:8080')

#: Arguments that every launch file of a simulated vehicle has.
COMMON = (
    flag('use_sim_time', False, 'let controller and visualizer read their clock from /clock'),
    NAMESPACE,
    flag('rviz', False, 'start RViz'),
    WEB,
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


def describe_adapter(adapter: str, *arguments: DeclareLaunchArgument) -> LaunchDescription:
    """Return the description that flies a vehicle through its autopilot.

    Args:
        adapter: the adapter's node.
        arguments: parameters of it beside the hover throttle, by their names; empty: as the file
            says.
    """
    own = (
        DeclareLaunchArgument(
            'hover_throttle',
            default_value='',
            description='throttle of a hover; empty: as the file says',
        ),
        *arguments,
    )

    def nodes(given: Mapping[str, str]) -> list[NodeSpec]:
        values: dict[str, float | str] = {a.name: given[a.name] for a in own if given[a.name]}
        if 'hover_throttle' in values:
            values['hover_throttle'] = float(values['hover_throttle'])
        return vehicle(
            adapter,
            given['config'],
            {adapter: values},
            namespace=given['namespace'],
            web=given['web'] == 'true',
        )

    config = DeclareLaunchArgument(
        'config', default_value='autopilot', description='ROS 2 parameter file, or a preset'
    )
    return describe([config, NAMESPACE, WEB, *own], nodes)


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
    if spec.respawn or spec.optional:
        return [node]
    stop = EmitEvent(event=Shutdown(reason=f'{spec.name} has ended'))
    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[stop]))]
