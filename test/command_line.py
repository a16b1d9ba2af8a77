"""Runs ``hmpc`` as a user does."""

import os
import subprocess
import sys


def run_command(command: str, *words: str, **values: object) -> subprocess.CompletedProcess:
    """Run a command with ``--set`` for each value; its output is kept as text."""
    sets = [word for name, value in values.items() for word in ('--set', f'{name}={value}')]
    return subprocess.run(
        [sys.executable, '-m', 'hmpc_ros.cli.main', command, *words, *sets],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
