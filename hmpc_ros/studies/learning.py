"""Learning over ROS 2, from the nodes that are started to the learner's last report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.ros import graph
from hmpc_ros.ros.timings import read_timings

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.ros.graph import NodeSpec
    from hmpc_ros.ros.monitor import Monitor
    from hmpc_ros.ros.progress import Progress
    from hmpc_ros.ros.runner import LocalRunner

REFRESH = 0.1  # s
# How long a learner may say nothing. Its solver may have to be compiled first.
SILENCE = 180.0  # s


class SilentLearnerError(RuntimeError):
    """A learner said nothing for too long."""


def learn(
    configuration: Configuration,
    out: Path,
    *,
    attach: bool = False,
    record: bool = False,
    rviz: bool = False,
    reader: Callable[[str, str], None] | None = None,
    on_news: Callable[[Monitor, LocalRunner], None] = lambda _monitor, _runner: None,
) -> Progress:
    """Start the nodes, follow the learner until its run is over, and end them.

    A run that is in the folder is gone on with. To ``attach`` is to start the learner only, beside
    nodes that run already in this ROS_DOMAIN_ID. ``reader`` is called with the name of a node and
    each line of its output, ``on_news`` again and again as soon as the learner has reported.

    Returns:
        The learner's last report: it is done, or stopped before its end.

    Raises:
        ValueError: some values do not go together, or ROS 2 is not here.
        SilentLearnerError: nothing is heard of the learner.
        NodeDiedError, DiscoveryError: see `LocalRunner`.
    """
    try:
        from hmpc_ros.ros.monitor import open_monitor
        from hmpc_ros.ros.runner import LocalRunner
    except ImportError as error:
        raise ValueError(
            f'ROS 2 is not here ({error}): source its setup file, or install the wheels with '
            '`make setup`, or learn without it: hmpc train'
        ) from error
    nodes = nodes_of(configuration, out, attach=attach, record=record, rviz=rviz)
    environment = {}
    if attach:
        environment['ROS_DOMAIN_ID'] = os.environ.get('ROS_DOMAIN_ID', '0')
        reach = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
        environment[reach] = os.environ.get(reach, 'SUBNET')
    started = time.monotonic()
    with (
        LocalRunner(nodes, reader=reader, environment=environment) as runner,
        runner.joined(),
        open_monitor() as monitor,
    ):
        while True:
            monitor.listen(REFRESH)
            runner.check()
            progress = monitor.progress
            if progress is not None:
                on_news(monitor, runner)
                if progress.state in ('done', 'stopped'):
                    monitor.listen(0.2)  # the history may come after the state
                    on_news(monitor, runner)
                    return monitor.progress or progress
            elif time.monotonic() - started > SILENCE:
                lines = '\n'.join(runner.output('learner')[-5:])
                raise SilentLearnerError(f'the learner says nothing; it wrote last:\n{lines}')


def nodes_of(
    configuration: Configuration, out: Path, *, attach: bool, record: bool, rviz: bool
) -> list[NodeSpec]:
    """List the processes that are to be started."""
    values = configuration.besides_file()
    values['learner']['results'] = str(out.absolute())
    if record:
        values['learner']['record'] = True
    return graph.learning(
        configuration.path,
        values,
        steps=int(configuration['learner']['steps']),
        rviz=rviz,
        only_learner=attach,
    )


def timing(out: Path) -> dict[str, float] | None:
    """Return where the time of an iteration goes: medians [s], None when it is not known."""
    rows = read_timings(out)
    if not rows:
        return None
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0] if name != 'k'}
