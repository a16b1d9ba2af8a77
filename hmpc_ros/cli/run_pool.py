"""Worker processes for many training runs at once, which report as they go and stop when told."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from hmpc_ros.learning.parallel import process_pool


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


_messages: Any = None
_stop: Any = None


def _start_worker(messages: Any, stop: Any) -> None:
    global _messages, _stop
    _messages, _stop = messages, stop


def tell(message: tuple) -> None:
    """Send a message to the process that started this worker.

    Raises:
        StoppedError: the block of `run_pool` was left, so that the task should end.
    """
    if _stop.is_set():
        raise StoppedError
    _messages.put(message)
