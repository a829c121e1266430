"""Distributes units of work among several processes, and yields the finished units in order."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from typing import Protocol, TypeVar

from pocketdit.errors import RunError

U = TypeVar("U")
U_contra = TypeVar("U_contra", contravariant=True)
_AHEAD = 4  # number of units per process that may be in progress or waiting to be written to shards
Numbered = tuple[int, U]

# Assigned when a worker process starts. The parent process sets the event when the build ends or fails.
_stop: Event | None = None


class UnitJob(Protocol[U_contra]):
    """A job that processes units. Both the job and the units can be pickled."""

    def is_finished(self, number: int) -> bool:
        """Return whether a unit has been processed."""
        ...

    def run(self, number: int, unit: U_contra, should_stop: Callable[[], bool]) -> None:
        """Process a unit, and write the result to files.

        ``should_stop`` is called repeatedly and returns whether the result is no longer needed.
        """
        ...


def finish_units(units: Iterable[U], job: UnitJob[U], workers: int) -> Iterator[Numbered[U]]:
    """Process units, and yield each finished unit with its number, in order. Finished units are not processed again.

    Args:
        units: The units.
        job: The job that processes a unit.
        workers: Number of processes. With one process or one unit, everything runs in this process.

    Raises:
        RunError: A process was killed.
    """
    numbered = enumerate(units)
    first = list(islice(numbered, 2))
    if workers > 1 and len(first) > 1:
        yield from _finish_in_processes(chain(first, numbered), job, workers)
        return
    for number, unit in chain(first, numbered):
        _finish(job, number, unit)
        yield number, unit


def _finish_in_processes(units: Iterable[Numbered[U]], job: UnitJob[U], workers: int) -> Iterator[Numbered[U]]:
    with _executor(workers) as executor:
        running: deque[tuple[Future[None], Numbered[U]]] = deque()
        for number, unit in units:
            running.append((executor.submit(_work, job, number, unit), (number, unit)))
            if len(running) >= _AHEAD * workers:
                yield _wait_for_first(running)
        while running:
            yield _wait_for_first(running)


def _wait_for_first(running: deque[tuple[Future[None], Numbered[U]]]) -> Numbered[U]:
    future, unit = running.popleft()
    try:
        future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "workers: a process was killed, perhaps because memory ran out; run the command again to resume, and use "
            "fewer --workers if this happens again"
        ) from error
    return unit


@contextmanager
def _executor(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Provide worker processes that stop soon after the ``with`` block ends or this process is killed."""
    context = get_context("spawn")  # forked processes would inherit locks that another thread may hold
    stop = context.Event()
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(stop,))
    try:
        yield executor
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent process stops the workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: UnitJob[U], number: int, unit: U) -> None:
    _finish(job, number, unit)


def _finish(job: UnitJob[U], number: int, unit: U) -> None:
    if not job.is_finished(number):
        job.run(number, unit, _should_stop)


def _should_stop() -> bool:
    return _stop is not None and _stop.is_set()
