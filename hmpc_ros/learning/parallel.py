"""Flies the requests of a training run on workers: processes here, or a Dask cluster.

Both speak Python's own futures (``concurrent.futures.Executor``); there is no engine of ours. A
flight depends on nothing but its request, so the results are those of the serial run, number for
number, in whatever order flights come back.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.training import TrainingRun
    from hmpc_ros.policy.flight import Flight

# One flight uses one core: linear algebra that spawns threads only gets into its own way.
ONE_THREAD = dict.fromkeys(('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')


def fly_in_turn(
    run: TrainingRun,
    fly: Callable[[FlightRequest], Any],
    on_record: Callable[[Record], None] = lambda _record: None,
) -> None:
    """Fly a training run to its end, one flight after the other, in this process."""
    while (request := run.next_request()) is not None:
        record = run.report(request, fly(request))
        if record is not None:
            on_record(record)


def fly_at_once(
    run: TrainingRun,
    submit: Callable[[FlightRequest], Future[Flight]],
    on_record: Callable[[Record], None] = lambda _record: None,
) -> None:
    """Fly a training run to its end, all flights that are due at the same time.

    ``submit`` hands a request to a worker; ``on_record`` is called with each finished iteration.
    """
    under_way: dict[Future[Flight], FlightRequest] = {}
    try:
        while True:
            while (request := run.next_request()) is not None:
                under_way[submit(request)] = request
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                record = run.report(under_way.pop(future), future.result())
                if record is not None:
                    on_record(record)
    finally:
        for future in under_way:
            future.cancel()


@contextmanager
def workers(jobs: int = 1, dask: str = '') -> Iterator[Executor | None]:
    """Provide an executor: a Dask cluster's, a pool of processes, or None for this process alone.

    Args:
        jobs: processes of the local pool; 1 needs none.
        dask: address of a Dask scheduler, e.g. ``tcp://10.0.0.5:8786``; wins over ``jobs``.

    Raises:
        ValueError: ``jobs`` is not positive, Dask is not installed, or its cluster does not answer.
    """
    if dask:
        with _dask_client(dask) as client:
            yield client.get_executor()
    elif jobs > 1:
        with process_pool(jobs) as pool:
            yield pool
    elif jobs == 1:
        yield None
    else:
        raise ValueError(f'jobs = {jobs} must be at least 1')


@contextmanager
def process_pool(
    jobs: int, initializer: Callable[..., None] | None = None, initargs: tuple = ()
) -> Iterator[ProcessPoolExecutor]:
    """Provide a pool of processes that leave Ctrl-C to this one, with one thread each.

    Each calls ``initializer`` with ``initargs`` before its first task.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    # Spawned, not forked: acados and DDS have threads and memory that must not be shared.
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_start_worker,
        initargs=(initializer, initargs),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def started(pool: ProcessPoolExecutor, jobs: int) -> ProcessPoolExecutor:
    """Wait until the processes of a pool have started, before a vehicle flies beside them."""
    for each in [pool.submit(int) for _ in range(jobs)]:
        each.result()
    return pool


def give_way() -> None:
    """Leave the processors to others: an initializer for what computes while a vehicle flies."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # not the parent's, real time maybe
    os.nice(10)


@contextmanager
def giving_way() -> Iterator[None]:
    """Let a thread compute without real-time priority, which is for what flies."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _start_worker(initializer: Callable[..., None] | None, initargs: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name='parent watch', daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    """End this worker when its parent has ended in whatever way: nobody waits for its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextmanager
def _dask_client(address: str) -> Iterator:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError('Dask is not installed: pip install distributed') from error
    try:
        client = Client(address, timeout='10s', set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f'there is no Dask scheduler at {address}: {error}') from error
    with client:
        yield client
