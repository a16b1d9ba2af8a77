"""A vehicle along a path: ``ros2 launch hmpc_ros tracking.launch.py vehicle:=crazyflie``.

The tracking MPC flies by thrust and body rates; ``trajectory:=eight``, or any other kind of path.
What is started is told by ``hmpc_ros.ros.graph``, which ``hmpc fly`` reads too.
"""

from collections.abc import Mapping

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.plant import presets
from hmpc_ros.plant.reference.factory import KINDS
from hmpc_ros.plant.simulators.flight_simulator import BACKENDS
from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.launching import COMMON, describe, flag

EIGHT = 'eight'  # of Lissajous, as people call it

ARGUMENTS = [
    DeclareLaunchArgument(
        'config',
        default_value='tracking',
        description='ROS 2 parameter file, or a preset: tracking',
    ),
    DeclareLaunchArgument(
        'vehicle',
        default_value='',
        choices=['', *presets.names()],
        description='which vehicle is simulated and assumed; empty: as the file says',
    ),
    DeclareLaunchArgument(
        'trajectory',
        default_value='',
        choices=['', EIGHT, *KINDS],
        description='what is tracked, sized by reference.* of the file; empty: as the file says; '
        'topic: hover until a trajectory comes',
    ),
    DeclareLaunchArgument(
        'backend',
        default_value='',
        choices=['', *BACKENDS],
        description='physics of the simulator; empty: as the file says',
    ),
    DeclareLaunchArgument(
        'real_time_factor',
        default_value='1.0',
        description='simulated over wall-clock time; 0: lockstep',
    ),
    flag('visualizer', True, 'publish the flown path and markers'),
    *COMMON,
]


def nodes(given: Mapping[str, str]) -> list[NodeSpec]:
    simulator: dict = {'real_time_factor': float(given['real_time_factor'])}
    controller: dict = {}
    if given['vehicle']:
        simulator['preset'] = controller['preset'] = given['vehicle']
    if given['backend']:
        simulator['backend'] = given['backend']
    if given['trajectory']:
        kind = given['trajectory']
        controller['reference.kind'] = 'lissajous' if kind == EIGHT else kind
    return simulation(
        given['config'],
        {'simulator': simulator, 'controller': controller},
        namespace=given['namespace'],
        use_sim_time=given['use_sim_time'] == 'true',
        visualizer=given['visualizer'] == 'true',
        rviz=given['rviz'] == 'true',
        web=given['web'] == 'true',
    )


def generate_launch_description() -> LaunchDescription:
    return describe(ARGUMENTS, nodes)
