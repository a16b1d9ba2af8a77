"""``hmpc autopilot``: how the take-over from an autopilot stands; engage, hand back."""

from __future__ import annotations

import argparse

from hmpc_ros.cli.options import ros_name, ros_namespace

ADAPTERS = ('mavlink_adapter', 'mavros_adapter', 'px4_adapter')
ACTIONS = ('status', 'engage', 'hand-back')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument('action', choices=ACTIONS, help='what to ask of the adapter')
    parser.add_argument(
        '--adapter',
        type=ros_name,
        default='mavlink_adapter',
        help=f'its node: {", ".join(ADAPTERS)} (default: mavlink_adapter)',
    )
    parser.add_argument('--namespace', type=ros_namespace, default='', help='its namespace')
    parser.add_argument(
        '--timeout', type=float, default=10.0, metavar='S', help='for an answer (default: 10)'
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask, print the answer, and return 1 when it is a refusal."""
    try:
        from hmpc_ros.ros.autopilot_client import open_client
    except ImportError as error:
        raise ValueError(f'ROS 2 is not here ({error}): source its setup file first') from error
    with open_client(arguments.adapter, arguments.namespace) as client:
        if arguments.action == 'status':
            status = client.status(arguments.timeout)
            print(status.message)
            for pair in status.values:
                print(f'  {pair.key:<27}{pair.value}')
            return 0
        done, words = client.ask(arguments.action.replace('-', '_'), arguments.timeout)
        print(words if done else f'refused: {words}')
        return 0 if done else 1
