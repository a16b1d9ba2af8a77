"""Where a result came from: versions, machine, command and date, for every result."""

import os
import platform
import shlex
import sys
import time
from importlib import metadata

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
        'machine': f'{platform.system()} {platform.machine()}, {os.cpu_count()} processors',
        'command': shlex.join(sys.argv),
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }


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
