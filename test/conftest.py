"""The environment every test runs in: a ROS domain of its own, all files in temp folders."""

import fcntl
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

# Domain d uses the UDP ports from 7400 + 250 d on; beyond 101 they reach the ephemeral ports.
_DOMAINS = range(1, 102)
_held: dict[str, IO[str]] = {}
_scratch: list[Path] = []


def _ports_are_free(domain: int) -> bool:
    """Say whether the ports of the domain's first participant can be bound."""
    for offset in (10, 11):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('0.0.0.0', 7400 + 250 * domain + offset))
            except OSError:
                return False
    return True


def _claim_domain() -> int:
    """Take a ROS domain that no other test run on this machine uses, and hold it until the end.

    The lock keeps two pytest processes apart while neither has a node yet; the ports tell of nodes
    that were started without a lock.
    """
    folder = Path(tempfile.gettempdir()) / f'hmpc_ros-domains-{os.getuid()}'
    folder.mkdir(exist_ok=True)
    # Different runs begin their search at different places: a domain just given up may still be in
    # the memory of peers that were killed.
    start = os.getpid() % len(_DOMAINS)
    for domain in [*_DOMAINS[start:], *_DOMAINS[:start]]:
        lock = (folder / f'{domain}.lock').open('w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if _ports_are_free(domain):
            _held['domain'] = lock
            return domain
        lock.close()
    raise pytest.UsageError('no free ROS domain between 1 and 101 on this machine')


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module can import rclpy or a message.

    A session fixture would come too late: the generated messages read ROS_PYTHON_CHECK_FIELDS when
    they are imported, and that happens while the tests are collected.
    """
    # A shell starts what it runs in the background with Ctrl-C ignored, and tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix='hmpc_ros-test-'))
    _scratch.append(scratch)
    # Solvers are generated and compiled once a session (5 s each), not once a test.
    # HMPC_TEST_CACHE_DIR keeps them from one session to the next while you work on something else.
    cache = os.environ.get('HMPC_TEST_CACHE_DIR') or str(scratch / 'cache')
    os.environ.update(
        HMPC_CACHE_DIR=cache,
        MPLBACKEND='Agg',
        ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        ROS_DOMAIN_ID=str(_claim_domain()),
        ROS_LOG_DIR=str(scratch / 'ros_log'),
        # A wrong Python type in a message field is otherwise sent as garbage.
        ROS_PYTHON_CHECK_FIELDS='1',
    )
    for name in ('ROS_LOCALHOST_ONLY', 'ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER'):
        os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the domain back and remove the session's files."""
    for lock in _held.values():
        lock.close()
    _held.clear()
    while _scratch:
        shutil.rmtree(_scratch.pop(), ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> str:
    """Name the domain, so that `ros2 topic list` can look into a running test."""
    names = ('ROS_DOMAIN_ID', 'HMPC_CACHE_DIR')
    return ', '.join(f'{name}={os.environ[name]}' for name in names)


@pytest.fixture(scope='session')
def ros_domain() -> int:
    """Return the ROS domain of this test session."""
    return int(os.environ['ROS_DOMAIN_ID'])


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """Undo what a test changes in the environment, so that no test depends on an earlier one."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
