"""``hmpc watch``: a learner at work, in the terminal."""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hmpc_ros.cli.live import view
from hmpc_ros.cli.options import ros_name, ros_namespace

REFRESH = 0.2  # s
SILENCE = 5.0  # s; a learner says something once a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        '--learner', type=ros_name, default='learner', help='name of the node (default: learner)'
    )
    parser.add_argument('--namespace', type=ros_namespace, default='', help='its namespace')
    parser.add_argument(
        '--once', action='store_true', help='print the state once, instead of following it'
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=10.0,
        metavar='S',
        help='with --once: how long to wait for a learner (default: 10)',
    )


def run(arguments: argparse.Namespace) -> int:
    """Follow a learner in this ROS_DOMAIN_ID until Ctrl-C; return 1 when there is none."""
    try:
        from hmpc_ros.ros.monitor import open_monitor
    except ImportError as error:
        raise ValueError(f'ROS 2 is not here ({error}): source its setup file first') from error
    console = Console(highlight=False)
    with open_monitor(arguments.learner, arguments.namespace) as monitor:
        if arguments.once:
            deadline = time.monotonic() + arguments.timeout
            while monitor.progress is None and time.monotonic() < deadline:
                monitor.listen(REFRESH)
            monitor.listen(REFRESH)
            if monitor.progress is None:
                raise ValueError(
                    f'no learner was heard within {arguments.timeout:g} s; is ROS_DOMAIN_ID right?'
                )
            console.print(view(monitor.progress, monitor.history))
            return 0
        with Live(console=console, refresh_per_second=1 / REFRESH) as live:
            while True:
                monitor.listen(REFRESH)
                silent = time.monotonic() - monitor.heard_at
                if monitor.progress is None:
                    live.update(Text('waiting for a learner', style='yellow'))
                elif silent > SILENCE:
                    live.update(
                        Text(f'the learner has said nothing for {silent:.0f} s', style='bold red')
                    )
                else:
                    live.update(view(monitor.progress, monitor.history))
