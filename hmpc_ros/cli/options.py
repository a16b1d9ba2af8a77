"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from hmpc_ros.configuration.files import Configuration, load
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
