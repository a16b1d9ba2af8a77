"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from hmpc_ros.configuration.files import Configuration, load
from hmpc_ros.learning.results import HEADER
from hmpc_ros.ros.graph import find_config


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--set``."""
    parser.add_argument(
        '--config',
        metavar='FILE',
        default='reference',
        help='ROS 2 parameter file, or the name of a preset in config/ (default: reference)',
    )
    parser.add_argument(
        '--set',
        metavar='NODE.PARAM=VALUE',
        action='append',
        default=[],
        dest='overrides',
        help='override a parameter, e.g. controller.goal.position="[1, 2, 3]"; may be repeated',
    )


def read_configuration(arguments: argparse.Namespace) -> tuple[Path, Configuration]:
    """Return the parameter file's path and all values, overrides included.

    Raises:
        FileNotFoundError: there is no such file or preset.
        ValueError: a name or value is refused.
    """
    path = find_config(arguments.config)
    return path, load(path, arguments.overrides)


def add_run(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options of a training run, whoever flies it: what, how long, where to."""
    add_configuration(parser)
    parser.set_defaults(config=None)
    parser.add_argument('--iterations', metavar='N', type=int, help='iterations in total')
    parser.add_argument('--seed', metavar='N', type=int, help='seed of the random directions')
    parser.add_argument(
        '--out',
        metavar='DIR',
        type=Path,
        default=Path(out),
        help=f'results folder (default: {out})',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with the run in the results folder, with its own configuration if no --config '
        'is given; start it if there is none',
    )
    parser.add_argument('--json', metavar='FILE', type=Path, help='write the summary to a file')


def refuse_to_mix(out: Path, resume: bool) -> None:
    """Raise ValueError when a folder holds a run already that is not to be gone on with."""
    if not resume and (out / HEADER).exists():
        raise ValueError(
            f'{out} holds a training run already: go on with it by --resume, or choose another '
            '--out'
        )
