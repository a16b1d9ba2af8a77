"""The vehicle tunes its own MPC: ``ros2 launch hmpc_ros learning.launch.py results:=DIRECTORY``.

What is started is told by ``hmpc_ros.ros.graph``, which ``hmpc learn`` reads too. A learner that
ends is started again and goes on with its results; nothing else ends with it.
"""

from collections.abc import Mapping
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.ros.graph import NodeSpec, learning
from hmpc_ros.ros.launching import COMMON, describe, flag

ARGUMENTS = [
    DeclareLaunchArgument(
        'config',
        default_value='reference',
        description='ROS 2 parameter file, or a preset: reference, demo_paper, ...',
    ),
    DeclareLaunchArgument(
        'results',
        default_value='results/learning',
        description='results folder; a run that is in it already is gone on with',
    ),
    DeclareLaunchArgument(
        'iterations', default_value='', description='in total; empty: as the parameter file says'
    ),
    flag('attach', False, 'start the learner only, beside nodes that run already'),
    flag('record', False, 'record the topics to an MCAP file in the results folder'),
    *COMMON,
]


def nodes(given: Mapping[str, str]) -> list[NodeSpec]:
    learner = {
        'results': str(Path(given['results']).absolute()),
        'record': given['record'] == 'true',
    }
    if given['iterations']:
        learner['iterations'] = int(given['iterations'])
    return learning(
        given['config'],
        {'learner': learner},
        namespace=given['namespace'],
        use_sim_time=given['use_sim_time'] == 'true',
        rviz=given['rviz'] == 'true',
        web=given['web'] == 'true',
        only_learner=given['attach'] == 'true',
    )


def generate_launch_description() -> LaunchDescription:
    return describe(ARGUMENTS, nodes)
