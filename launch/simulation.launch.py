"""Simulated quadcopter under the MPC: ``ros2 launch hmpc_ros simulation.launch.py``.

What is started is told by ``hmpc_ros.ros.graph``, which the local runner of ``hmpc fly`` reads too.
"""

from collections.abc import Mapping

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.launching import COMMON, describe, flag

ARGUMENTS = [
    DeclareLaunchArgument(
        'config',
        default_value='wall_clock',
        description='ROS 2 parameter file, or a preset: reference, wall_clock, disturbed',
    ),
    DeclareLaunchArgument(
        'real_time_factor',
        default_value='',
        description='simulated over wall-clock time; 0: lockstep; empty: as the file says',
    ),
    flag('visualizer', True, 'publish the flown path and markers'),
    *COMMON,
]


def nodes(given: Mapping[str, str]) -> list[NodeSpec]:
    parameters = {}
    if given['real_time_factor']:
        parameters['simulator'] = {'real_time_factor': float(given['real_time_factor'])}
    return simulation(
        given['config'],
        parameters,
        namespace=given['namespace'],
        use_sim_time=given['use_sim_time'] == 'true',
        visualizer=given['visualizer'] == 'true',
        rviz=given['rviz'] == 'true',
        web=given['web'] == 'true',
    )


def generate_launch_description() -> LaunchDescription:
    return describe(ARGUMENTS, nodes)
