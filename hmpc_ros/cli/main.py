"""The command ``hmpc``.

A subcommand is a module with ``add_arguments(parser)`` and ``run(arguments) -> int`` (the exit
code), and one line in `COMMANDS`. Its module is imported only when it is called, so that
``hmpc --help`` is quick and needs neither ROS nor acados.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from hmpc_ros import __version__

# name: (module, what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    'fly': ('hmpc_ros.cli.fly', 'fly once under the MPC, over ROS 2 or offline; picture and cost'),
    'demo': ('hmpc_ros.cli.demo', 'fly, learn for a few flights over ROS 2, fly again'),
    'learn': ('hmpc_ros.cli.learn', 'the vehicle tunes its own MPC over ROS 2, flight by flight'),
    'watch': ('hmpc_ros.cli.watch', 'watch a learner at work'),
    'autopilot': ('hmpc_ros.cli.autopilot', 'take over from an autopilot, and hand back'),
    'train': ('hmpc_ros.cli.train', "tune the MPC's weights flight by flight, without ROS"),
    'identify': ('hmpc_ros.cli.identify', "fit the MPC's linear model to flights"),
    'reproduce': ('hmpc_ros.cli.reproduce', "the paper's experiment: all arms, figures and table"),
    'plot': ('hmpc_ros.cli.plot', 'draw a training run or an experiment'),
    'benchmark': ('hmpc_ros.cli.benchmark', 'all rules on all cases of mismatch: figure, table'),
    'study': ('hmpc_ros.cli.study', 'how wrong the model may be: all rules as mismatch grows'),
}

_DESCRIPTION = """\
Hybrid-gradient policy optimisation for model predictive control, on ROS 2:
a quadcopter flies under an acados MPC and tunes that MPC's weights by itself."""

_EPILOG = """\
hmpc COMMAND --help explains a command. Parameters come from an ordinary ROS 2
parameter file (--config) and from --set node.parameter=value."""


def make_parser(command: str | None) -> argparse.ArgumentParser:
    """Return the parser; only the given command's own module is imported."""
    parser = argparse.ArgumentParser(
        prog='hmpc',
        usage='%(prog)s COMMAND [options]',
        # argparse would break the line after every command longer than it likes.
        description='\n'.join(
            [
                _DESCRIPTION,
                '',
                'commands:',
                *(f'  {n:<11}{text}' for n, (_, text) in COMMANDS.items()),
            ]
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'hmpc_ros {__version__}')
    commands = parser.add_subparsers(
        dest='command', prog='hmpc', metavar='COMMAND', help=argparse.SUPPRESS
    )
    for name, (module_name, summary) in COMMANDS.items():
        child = commands.add_parser(name, description=f'{summary[0].upper()}{summary[1:]}.')
        if name == command:
            module = import_module(module_name)
            module.add_arguments(child)
            child.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in words if not word.startswith('-')), None)
    try:
        parser = make_parser(command)
        parsed = parser.parse_args(words)
        if parsed.command is None:
            parser.print_help()
            return 2 if words else 0
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (| head); a flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get('HMPC_TRACEBACK') or not _is_for_the_user(error):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f'{error.filename}: {error.strerror}'
        print(f'hmpc {command}: {text}', file=sys.stderr)
        return 1


def _is_for_the_user(error: Exception) -> bool:
    """Tell a refusal, whose message is a sentence, from a mistake in the program."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        return True  # what is wrong with a file that was asked for
    refusal = (ValueError, FileNotFoundError, PermissionError)
    # Errors of our own say what to do; a bare RuntimeError of somebody else does not.
    return isinstance(error, refusal) or type(error).__module__.startswith('hmpc_ros.')


if __name__ == '__main__':
    raise SystemExit(main())
