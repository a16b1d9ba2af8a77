"""``hmpc autopilot``: controller and adapter in one terminal; engage and hand back in another."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time

from hmpc_ros.cli.options import ros_name, ros_namespace

ADAPTERS = ('mavlink_adapter', 'mavros_adapter', 'px4_adapter', 'crazyflie_adapter')
ACTIONS = ('run', 'status', 'engage', 'go', 'hand-back')
CHECK_PERIOD = 0.2  # s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        'action', choices=ACTIONS,
        help='run controller and adapter until Ctrl-C, ask a running adapter, or send the vehicle '
        'to a place (go --to X Y Z)',
    )  # fmt: skip
    parser.add_argument(
        '--config', default='autopilot', help='with run: parameter file or preset (autopilot)'
    )
    parser.add_argument('--url', help='with run: of the autopilot, for the mavlink_adapter')
    parser.add_argument(
        '--adapter', type=ros_name, default='mavlink_adapter',
        help=f'its node: {", ".join(ADAPTERS)} (default: mavlink_adapter)',
    )  # fmt: skip
    parser.add_argument(
        '--to', type=float, nargs=3, metavar=('X', 'Y', 'Z'),
        help="with go: ENU, metres from the autopilot's origin",
    )  # fmt: skip
    parser.add_argument(
        '--yaw', type=float, default=0.0, metavar='DEG', help='with go: heading there, from east'
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
    if arguments.action == 'run':
        return _run(arguments)
    if (arguments.action == 'go') != (arguments.to is not None):
        raise ValueError('go needs --to X Y Z, and nothing else does')
    with open_client(arguments.adapter, arguments.namespace) as client:
        if arguments.action == 'status':
            status = client.status(arguments.timeout)
            print(status.message)
            for pair in status.values:
                print(f'  {pair.key:<27}{pair.value}')
            return 0
        if arguments.action == 'go':
            client.go(arguments.to, math.radians(arguments.yaw), arguments.timeout)
            return 0
        done, words = client.ask(arguments.action.replace('-', '_'), arguments.timeout)
        print(words if done else f'refused: {words}')
        return 0 if done else 1


def _run(arguments: argparse.Namespace) -> int:
    """Run controller and adapter until Ctrl-C, in this terminal's ROS domain."""
    from hmpc_ros.ros.graph import vehicle
    from hmpc_ros.ros.runner import LocalRunner, NodeDiedError

    name = arguments.adapter
    if arguments.url and name != 'mavlink_adapter':
        raise ValueError(f'--url is of the mavlink_adapter, not of the {name}')
    given = {name: {'url': arguments.url}} if arguments.url else {}
    nodes = vehicle(name, arguments.config, given, namespace=arguments.namespace)
    # The other terminals ask in the same domain.
    domain = {'ROS_DOMAIN_ID': os.environ.get('ROS_DOMAIN_ID') or '0'}

    def show(node: str, line: str) -> None:
        print(f'{node}: {line}', flush=True)

    try:
        with LocalRunner(nodes, reader=show, environment=domain) as runner:
            while True:
                runner.check()
                time.sleep(CHECK_PERIOD)
    except NodeDiedError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
