"""Where a result came from: versions, machine, command and date, for every result."""

import functools
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import hmpc_ros


def provenance() -> dict[str, object]:
    """Return versions of all that decides numbers, the machine, the command and the date (UTC)."""
    return {
        'versions': {
            'hmpc_ros': hmpc_ros.__version__,
            'acados': _acados_version(),
            'casadi': _version('casadi'),
            'numpy': _version('numpy'),
            'python': platform.python_version(),
            'ros': _ros_distro(),
        },
        'commit': commit(),
        'machine': f'{platform.system()} {platform.machine()}, {os.cpu_count()} processors',
        'command': shlex.join(sys.argv),
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }


def made_by(result: Mapping[str, Any]) -> str:
    """Return the sentence that ends a page of results, from what `provenance` put into them."""
    seeds = ', '.join(str(seed) for seed in result.get('seeds', ()))
    return (
        f'Made by `{result["command"]}`\non {result["date"]} from commit '
        f'{result["commit"] or "unknown"}, on {result["machine"]}; '
        f'acados {result["versions"]["acados"]}'
        + (f', seeds {seeds}.\n' if seeds else '.\n')
    )


@functools.lru_cache(maxsize=1)
def commit() -> str:
    """Return the commit of the working copy that this package is in, empty where it is in none."""
    words = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty']
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return 'unknown'


def _ros_distro() -> str:
    """Name the ROS distribution: of the wheels, which win over a sourced one, else the sourced."""
    for wheel, name in (('ros-rclpy', 'kilted'), ('ros-jazzy-rclpy', 'jazzy')):
        version = _version(wheel)
        if version != 'unknown':
            return f'{name} (wheel {wheel} {version})'
    return os.environ.get('ROS_DISTRO', 'none')


def _acados_version() -> str:
    from hmpc_ros.policy.acados import acados

    try:
        return acados().version
    except ImportError:
        return 'none'
