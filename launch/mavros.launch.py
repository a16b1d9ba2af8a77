"""A vehicle behind MAVROS: ``ros2 launch hmpc_ros mavros.launch.py``; see docs/autopilots.md.

Nothing is commanded before ``ros2 service call /mavros_adapter/engage std_srvs/srv/Trigger``.
"""

from collections.abc import Mapping

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.ros.graph import NodeSpec, vehicle
from hmpc_ros.ros.launching import describe

ARGUMENTS = [
    DeclareLaunchArgument(
        'config', default_value='autopilot', description='ROS 2 parameter file, or a preset'
    ),
    DeclareLaunchArgument('namespace', default_value='', description='namespace of all nodes'),
    DeclareLaunchArgument(
        'hover_throttle',
        default_value='',
        description='throttle of a hover; empty: as the file says',
    ),
]


def nodes(given: Mapping[str, str]) -> list[NodeSpec]:
    adapter: dict[str, float | str] = {}
    if given['hover_throttle']:
        adapter['hover_throttle'] = float(given['hover_throttle'])
    name = 'mavros_adapter'
    return vehicle(name, given['config'], {name: adapter}, namespace=given['namespace'])


def generate_launch_description() -> LaunchDescription:
    return describe(ARGUMENTS, nodes)
