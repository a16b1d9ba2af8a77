"""What a result was made with: versions, date, command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from hmpc_ros import __version__


def provenance(command: list[str] | None = None) -> dict[str, Any]:
    """Return versions, machine, date and command line, for JSON.

    Args:
        command: the command line; None: that of this process.
    """
    words = ['hmpc', *sys.argv[1:]] if command is None else command
    return {
        'date': datetime.now(UTC).isoformat(timespec='seconds'),
        'command': shlex.join(words),
        'versions': versions(),
        'machine': f'{platform.system()} {platform.machine()}, {os.cpu_count()} processors',
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that can change a result."""
    import casadi
    import numpy as np

    from hmpc_ros.policy.acados_backend import AcadosMissingError, acados

    try:
        acados_version = acados().version
    except AcadosMissingError:
        acados_version = 'none'
    return {
        'hmpc_ros': __version__,
        'acados': acados_version,
        'casadi': casadi.__version__,
        'numpy': np.__version__,
        'python': platform.python_version(),
        'ros_distro': ros_distro(),
    }


def ros_distro() -> str:
    """Return the ROS distribution in use: from its environment, else from the wheels' rclpy."""
    # rclpy 7 is Jazzy's, 9 is Kilted's; ROS_DISTRO may be that of another, sourced installation.
    for wheel, name in (('ros-rclpy', 'kilted'), ('ros-jazzy-rclpy', 'jazzy')):
        try:
            return f'{name} (wheel {wheel} {metadata.version(wheel)})'
        except metadata.PackageNotFoundError:
            continue
    return os.environ.get('ROS_DISTRO', 'none')
