"""A long learning run over ROS, measured: where the time goes, and whether memory stays."""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros.cli import learn
from hmpc_ros.learning.results import read_records
from hmpc_ros.ros.timings import read_timings

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
    from hmpc_ros.ros.monitor import open_monitor
    from hmpc_ros.ros.runner import LocalRunner

    parser = argparse.ArgumentParser()
    learn.add_arguments(parser)
    words = ['--config', config, '--out', str(out), '--iterations', str(iterations)]
    arguments = parser.parse_args(words)
    arguments.overrides += overrides
    nodes, _ = learn.nodes_of(arguments)
    memory: list[tuple[int, dict[str, float]]] = []
    began = time.monotonic()
    with LocalRunner(nodes) as runner, runner.joined(), open_monitor() as monitor:
        while True:
            monitor.listen(0.1)
            runner.check()
            now = monitor.progress
            if now is None:
                continue
            if not memory or now.iteration > memory[-1][0]:
                memory.append((now.iteration, {n: resident(runner.pid(n)) for n in NODES}))
                progress(now.iteration)
            if now.state in ('done', 'stopped'):
                break
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
