"""``hmpc watch``: a learner at work in the terminal, or all there is to see on a page."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hmpc_ros.cli.live import view
from hmpc_ros.cli.options import ros_name, ros_namespace
from hmpc_ros.configuration.tables import WEB

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
        '--timeout', type=float, default=10.0, metavar='S',
        help='with --once: how long to wait for a learner (default: 10)',
    )  # fmt: skip
    page = parser.add_argument_group(
        'page',
        'a live page in any browser: vehicle, reference, plan, flown path, curves, buttons. '
        'Needs viser: pip install viser',
    )
    page.add_argument('--web', action='store_true', help='serve the page until Ctrl-C')
    page.add_argument(
        '--host', default=WEB['host'].default,
        help='where it listens; any but this machine alone, such as 0.0.0.0, asks visitors for '
        'the token in the printed address; nothing is encrypted (default: %(default)s)',
    )  # fmt: skip
    page.add_argument(
        '--port', type=_port, default=WEB['port'].default, help='default: %(default)s; 0: any'
    )
    page.add_argument(
        '--adapter', type=ros_name, default=WEB['adapter'].default,
        help="the autopilot's adapter (default: %(default)s)",
    )  # fmt: skip
    page.add_argument(
        '--bag', metavar='FILE', type=Path, help='show a recording (MCAP) instead of what flies'
    )
    page.add_argument(
        '--rate', type=_rate, default='1', help='with --bag: times real time (default: 1)'
    )


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f'must be a whole number from 0 to 65535, got {text!r}')
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f'must be above 0 and at most 1000, got {text!r}')
    return rate


def run(arguments: argparse.Namespace) -> int:
    """Follow a learner in this ROS_DOMAIN_ID until Ctrl-C; return 1 when there is none."""
    try:
        from hmpc_ros.ros.monitor import open_monitor
    except ImportError as error:
        raise ValueError(f'ROS 2 is not here ({error}): source its setup file first') from error
    if arguments.bag is not None and not arguments.web:
        raise ValueError('--bag is shown on the page: add --web')
    if arguments.web:
        return _serve(arguments)
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


def _serve(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, of what flies or of a recording."""
    if arguments.bag is None:
        from hmpc_ros.ros.graph import NodeSpec
        from hmpc_ros.ros.web_node import main

        given = {name: getattr(arguments, name) for name in WEB}
        spec = NodeSpec('web', '', 'web', namespace=arguments.namespace, parameters=given)
        return main(['web', *spec.ros_arguments()])
    from hmpc_ros.ros.web_page import Page, PageError
    from hmpc_ros.ros.web_replay import replay
    from hmpc_ros.ros.web_story import Story

    if not arguments.bag.is_file():
        raise ValueError(f'there is no recording {arguments.bag}')
    story = Story(arguments.learner, arguments.adapter)
    try:
        page = Page(story, arguments.host, arguments.port)
    except PageError as error:
        raise ValueError(str(error)) from error
    try:
        print(f'open {page.gate.url} in a browser: it begins then', flush=True)
        replay(arguments.bag, story, page, arguments.rate, arguments.namespace)
    except KeyboardInterrupt:
        return 0
    finally:
        page.close()
