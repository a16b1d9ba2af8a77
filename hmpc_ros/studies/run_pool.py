"""Worker processes for many training runs at once, which report as they go and stop when told."""

from __future__ import annotations

import multiprocessing as mp
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hmpc_ros.learning.parallel import process_pool


class Run(Protocol):
    """What a worker is given to do."""

    @property
    def name(self) -> str:
        """For people, and different for each."""
        ...


AnyRun = TypeVar('AnyRun', bound=Run)


class StoppedError(Exception):
    """The experiment that a run belongs to was interrupted."""


@contextmanager
def run_pool(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Start worker processes, and end them, with what they are at, when the block is left.

    Args:
        jobs: How many.

    Yields:
        The pool, and the queue of what its tasks `tell`.
    """
    context = mp.get_context('spawn')
    messages, stop = context.Queue(), context.Event()
    with process_pool(jobs, _start_worker, (messages, stop)) as pool:
        try:
            yield pool, messages
        finally:
            stop.set()


def work_off(
    runs: Sequence[AnyRun],
    work: Callable[[AnyRun], str],
    on_end: Callable[[AnyRun, Future[str]], None],
    *,
    jobs: int,
    steps: int,
    unit: str,
    done: Mapping[str, int],
    console: Console,
) -> None:
    """Work off runs on a pool of processes, with one progress bar for all.

    Args:
        runs: What is to be done.
        work: Called with a run in a worker; it may `tell` (name, steps done, text) as it goes.
        on_end: Called here with each run that has ended.
        jobs: How many processes.
        steps: Of each run.
        unit: What steps are.
        done: How many steps of which run are done already, by name; also of runs that are not to
            be done any more.
        console: Where the bar is shown.
    """
    done = {name: min(count, steps) for name, count in done.items()}
    total = steps * len({*done, *(run.name for run in runs)})
    progress = Progress(
        TextColumn(unit),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn('{task.description}'),
        TimeRemainingColumn(),
        console=console,
    )
    with run_pool(jobs) as (pool, messages), progress:
        bar = progress.add_task('', total=total, completed=sum(done.values()))
        futures = {pool.submit(work, run): run for run in runs}
        while futures:
            with suppress(queue.Empty):
                name, count, text = messages.get(timeout=0.2)
                done[name] = min(count, steps)
                progress.update(bar, completed=sum(done.values()), description=f'{name}: {text}')
            for future in [future for future in futures if future.done()]:
                run = futures.pop(future)
                done[run.name] = steps
                progress.update(bar, completed=sum(done.values()))
                on_end(run, future)


_messages: Any = None
_stop: Any = None


def _start_worker(messages: Any, stop: Any) -> None:
    global _messages, _stop
    _messages, _stop = messages, stop


def tell(name: str, steps: int, text: str) -> None:
    """Tell the process that started this worker how far a run is, see `work_off`.

    Raises:
        StoppedError: the block of `run_pool` was left, so that the task should end.
    """
    if _stop.is_set():
        raise StoppedError
    _messages.put((name, steps, text))
