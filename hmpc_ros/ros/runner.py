"""Starts the processes of a graph on this machine, where there is no ``ros2 launch``."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hmpc_ros.policy.solver_cache import open_cache
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.share import config_dir

# Domains that a plain machine can use on every operating system, without the default one.
_DOMAINS = range(1, 101)
_LAST_DOMAIN = 232  # of what DDS has ports for: RTPS 2.2, section 9.6.1.1
_LINES_KEPT = 400
# What nodes get to stop after SIGINT, and after SIGTERM, before they are killed.
_PATIENCE = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))

Reader = Callable[[str, str], None]


class NodeDiedError(RuntimeError):
    """A process of the graph ended by itself; the message holds its last lines of output."""


class DiscoveryError(RuntimeError):
    """The nodes did not find each other in time; the message says which are missing."""


class _Process:
    """One running node: the process and the last lines it wrote."""

    def __init__(
        self, spec: NodeSpec, environment: Mapping[str, str], reader: Reader | None
    ) -> None:
        self.spec = spec
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._reader = reader
        self.popen = subprocess.Popen(
            command(spec),
            stdin=subprocess.PIPE,  # the tether; nothing is ever written
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            # A group of its own: Ctrl-C reaches it once, through the runner, and what it starts
            # itself (acados calls make) can be ended with it.
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, name=f'{spec.name} output', daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for raw in self.popen.stdout:
            line = raw.decode(errors='replace').rstrip('\n')
            self.lines.append(line)
            if self._reader is not None:
                self._reader(self.spec.name, line)

    @property
    def returncode(self) -> int | None:
        return self.popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the node and to all it started."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)

    def close(self) -> None:
        """Let go of the ended process: what it left running, its pipes and its reader."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self._thread.join(timeout=1.0)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def last_words(self) -> str:
        """Return the last lines of output, indented."""
        # The process has ended, so its output has too: wait until all of it was read.
        self._thread.join(timeout=1.0)
        return _tail(self.lines, 15) or '    (it wrote nothing)'


class LocalRunner:
    """Runs the nodes of a graph as real processes, as a context.

        with LocalRunner(graph.simulation('reference')) as runner:
            ...
            runner.check()

    The nodes talk in a ROS domain of their own, on this machine only, unless ``ROS_DOMAIN_ID`` is
    set. They end with the context: by SIGINT, then SIGTERM, then SIGKILL; and by themselves when
    this process dies in any other way (see `hmpc_ros.ros.tether`).

    Attributes:
        environment: What the nodes run in. A process that wants to talk to them joins it with
            `joined` before it calls ``rclpy.init``.
    """

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        *,
        reader: Reader | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            nodes: what to start.
            reader: is called with (node name, line) for every line a node writes, from a thread.
            environment: variables to add.
        """
        self.nodes = tuple(nodes)
        self._reader = reader
        self._processes: list[_Process] = []
        self._domain_lock: socket.socket | None = None
        self.environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> LocalRunner:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process.

        Raises:
            FileNotFoundError: the program of a node that is not Python is not installed.
            ValueError: ``ROS_DOMAIN_ID`` is no domain.
        """
        environment = self.environment
        refuse_domain(environment)
        if not environment.get('ROS_DOMAIN_ID'):
            number, self._domain_lock = reserve_domain()
            environment['ROS_DOMAIN_ID'] = str(number)
            environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        environment.setdefault(
            'FASTDDS_DEFAULT_PROFILES_FILE', str(config_dir() / 'fastdds_discovery.xml')
        )
        if 'ROS_LOG_DIR' not in environment:  # rclpy.init raises where it cannot write its log
            environment['ROS_LOG_DIR'] = str(open_cache() / 'log')
        Path(environment['ROS_LOG_DIR']).mkdir(parents=True, exist_ok=True)
        # What a node says must be readable when it dies: no lines lost in a buffer, no colours.
        environment.setdefault('PYTHONUNBUFFERED', '1')
        environment.setdefault('RCUTILS_COLORIZED_OUTPUT', '0')
        environment.setdefault('RCUTILS_CONSOLE_OUTPUT_FORMAT', '[{severity}] {message}')
        for spec in self.nodes:
            self._processes.append(_Process(spec, environment, self._reader))

    def check(self) -> None:
        """Raise when a node has ended.

        Raises:
            NodeDiedError: with the node's last lines of output.
        """
        for process in self._processes:
            code = process.returncode
            if code is not None and not process.spec.optional:
                how = f'exited ({code})'
                if code < 0:
                    how = f'was ended by {signal.Signals(-code).name}'
                raise NodeDiedError(
                    f'the node {process.spec.name} {how}; its last lines were:\n'
                    f'{process.last_words()}'
                )

    def output(self, name: str) -> list[str]:
        """Return the last lines the node of that name wrote."""
        return [line for p in self._processes if p.spec.name == name for line in p.lines]

    def pid(self, name: str) -> int:
        """Return the process id of the node of that name."""
        return next(p.popen.pid for p in self._processes if p.spec.name == name)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Put this process into the nodes' ROS domain for as long as the context lasts."""
        names = (
            'ROS_DOMAIN_ID',
            'ROS_AUTOMATIC_DISCOVERY_RANGE',
            'ROS_LOG_DIR',
            'FASTDDS_DEFAULT_PROFILES_FILE',
        )
        before = {name: os.environ.get(name) for name in names}
        os.environ.update({name: self.environment[name] for name in names})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def wait_until_discovered(self, node: Any, timeout: float = 20.0) -> None:
        """Wait until an rclpy node of this process, in the same domain, sees all that were started.

        Raises:
            NodeDiedError: one of them ended meanwhile.
            DiscoveryError: they did not appear within ``timeout`` [s].
        """
        wanted = {
            f'/{p.spec.namespace.strip("/")}/{p.spec.name}'.replace('//', '/')
            for p in self._processes
            if p.spec.module
        }
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            seen = {
                f'{space.rstrip("/")}/{name}'
                for name, space in node.get_node_names_and_namespaces()
            }
            if wanted <= seen:
                return
            if time.monotonic() > deadline:
                missing = sorted(wanted - seen)
                words = '\n'.join(
                    f'  {p.spec.name} wrote last:\n{_tail(p.lines, 5)}' for p in self._processes
                )
                raise DiscoveryError(
                    f'{", ".join(missing)} did not appear within {timeout:g} s in ROS domain '
                    f'{self.environment["ROS_DOMAIN_ID"]}\n{words}'
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """End every process that still runs, and wait for it."""
        for number, patience in _PATIENCE:
            # In the reverse order of their start: whoever was started last needs the others most.
            for process in reversed(self._processes):
                process.send(number)
            deadline = time.monotonic() + patience
            while any(p.returncode is None for p in self._processes):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
        for process in self._processes:
            process.close()
        if self._domain_lock is not None:
            self._domain_lock.close()
            self._domain_lock = None


def command(spec: NodeSpec) -> list[str]:
    """Return the command line that starts a node on this machine.

    Raises:
        FileNotFoundError: the node is not Python and its program is not on the PATH.
    """
    words = [sys.executable, '-m', 'hmpc_ros.ros.tether']
    if spec.module:
        words.append(spec.module)
    else:
        program = shutil.which(spec.executable)
        if program is None:
            raise FileNotFoundError(
                f'{spec.executable} is not on the PATH; install ros-$ROS_DISTRO-{spec.package} '
                f'and source its setup file'
            )
        words += ['--program', program]
    return [*words, *spec.arguments, *spec.ros_arguments()]


def refuse_domain(environment: Mapping[str, str]) -> None:
    """Raise ValueError when ``ROS_DOMAIN_ID`` is set to what is no domain."""
    text = environment.get('ROS_DOMAIN_ID', '')
    if text and not (text.isdecimal() and int(text[:9]) <= _LAST_DOMAIN):
        raise ValueError(
            f'ROS_DOMAIN_ID is {text!r}; it must be a whole number from 0 to {_LAST_DOMAIN}, or '
            'not be set'
        )


def reserve_domain() -> tuple[int, socket.socket]:
    """Find a ROS domain that nobody on this machine uses.

    Returns:
        Its number, and a socket that keeps other runners from taking it until it is closed (by the
        kernel, if need be).

    Raises:
        RuntimeError: all are taken.
    """
    domains = list(_DOMAINS)
    random.shuffle(domains)
    for number in domains:
        port = 7400 + 250 * number  # of DDS discovery, RTPS 2.2, section 9.6.1.1
        # DDS talks UDP; the TCP port of the same number serves as the lock between runners.
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lock.bind(('127.0.0.1', port))
            with probe:
                # DDS shares the port between participants; without SO_REUSEADDR the bind fails
                # while there is any.
                probe.bind(('', port))
        except OSError:
            lock.close()
            probe.close()
            continue
        return number, lock
    raise RuntimeError(
        f'all ROS domains from {_DOMAINS[0]} to {_DOMAINS[-1]} are in use on this machine; '
        f'set ROS_DOMAIN_ID to the one you want'
    )


def _tail(lines: Iterable[str], count: int) -> str:
    return '\n'.join(f'    {line}' for line in list(lines)[-count:])
