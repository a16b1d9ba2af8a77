"""Where a result came from: versions and date, for every results folder and JSON file."""

import os
import platform
import time
from importlib import metadata

import hmpc_ros


def provenance() -> dict[str, object]:
    """Return versions of all that decides numbers, and the date (UTC)."""
    return {
        'versions': {
            'hmpc_ros': hmpc_ros.__version__,
            'acados': _acados_version(),
            'casadi': _version('casadi'),
            'numpy': _version('numpy'),
            'python': platform.python_version(),
            'ros': os.environ.get('ROS_DISTRO', 'none'),
            'machine': platform.machine(),
        },
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return 'unknown'


def _acados_version() -> str:
    from hmpc_ros.policy.acados_backend import acados

    try:
        return acados().version
    except ImportError:
        return 'none'
