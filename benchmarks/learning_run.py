"""A long learning run over ROS, measured: where the time goes, and whether memory stays."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration.files import load
from hmpc_ros.learning.results import read_records
from hmpc_ros.ros.graph import find_config
from hmpc_ros.ros.timings import read_timings
from hmpc_ros.studies.learning import learn

if TYPE_CHECKING:
    from hmpc_ros.ros.monitor import Monitor
    from hmpc_ros.ros.runner import LocalRunner

NODES = ('simulator', 'controller', 'learner')
# What a process may still grow after its first iterations: caches and pools that fill up.
SETTLED = 0.25  # share of the run that is not looked at
ALLOWED = 4.0  # MiB


def measure(
    out: Path,
    iterations: int,
    *,
    config: str = 'reference',
    overrides: tuple[str, ...] = (),
    progress: Callable[[int], None] = lambda _iteration: None,
) -> dict[str, Any]:
    """Learn over ROS, and watch time and memory.

    Args:
        out: results folder, new.
        iterations: how many.
        config: parameter file or preset.
        overrides: as for ``--set``.
        progress: is called with the iteration reached.

    Returns:
        ``iterations``; ``flights``; ``repeats`` and ``unsafe`` flights; ``seconds``: median and
        99 % of each part of an iteration (see `hmpc_ros.ros.timings`); ``memory``: resident MiB of
        each node after a quarter of the run and at its end; ``flat``: whether none grew.

    Raises:
        RuntimeError: learning stopped before its end.
    """
    words = [*overrides, f'learner.iterations={iterations}']
    configuration = load(find_config(config), words)
    memory: list[tuple[int, dict[str, float]]] = []
    began = time.monotonic()

    def watch(monitor: Monitor, runner: LocalRunner) -> None:
        reached = monitor.progress.iteration if monitor.progress else 0
        if not memory or reached > memory[-1][0]:
            memory.append((reached, {n: resident(runner.pid(n)) for n in NODES}))
            progress(reached)

    now = learn(configuration, out, on_news=watch)
    if now.state == 'stopped':
        raise RuntimeError(f'learning stopped: {now.message}')
    _, records = read_records(out)
    timings = [timing for timing in read_timings(out) if timing['k'] < iterations]
    parts = [name for name in timings[0] if name != 'k']
    later = [each for iteration, each in memory if iteration >= SETTLED * iterations]
    grown = {name: later[-1][name] - later[0][name] for name in NODES}
    return {
        'iterations': iterations,
        'flights': records[-1]['flights'],
        'repeats': now.repeats,
        'unsafe': now.unsafe_flights,
        'wall_time': time.monotonic() - began,
        'seconds': {
            part: {
                'median': float(np.median([timing[part] for timing in timings])),
                'p99': float(np.percentile([timing[part] for timing in timings], 99)),
            }
            for part in parts
        },
        'memory': {name: {'settled': later[0][name], 'end': later[-1][name]} for name in NODES},
        'flat': max(grown.values()) < ALLOWED,
        'start': {name: records[0][name] for name in 'CVJ'},
        'end': {name: records[-1][name] for name in 'CVJ'},
    }


def resident(pid: int) -> float:
    """Return the memory of a process that is in use [MiB]."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    except (OSError, IndexError, ValueError):  # ended, or not Linux
        return float('nan')
    return pages * resource.getpagesize() / 2**20
