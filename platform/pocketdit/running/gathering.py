"""Exchanges plain values and errors between the processes of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from pocketdit.errors import RunError

T = TypeVar("T")


def gather(value: T, processes: int) -> list[T]:
    """Return the values of all processes, in the order of their ranks. This must be called on every rank.

    Args:
        value: A value that can be pickled.
        processes: Number of processes of the run.
    """
    if processes == 1:
        return [value]
    values = [value] * processes
    torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def fail_together(processes: int) -> Iterator[None]:
    """Raise a ``RunError`` that occurs inside the context on one rank on all ranks. This must be used on every rank.

    Otherwise, the other ranks would wait for the failed one in their next collective operation.

    Args:
        processes: Number of processes of the run.

    Raises:
        RunError: At least one rank has failed. All ranks raise the error of the first of them.
    """
    message: str | None = None
    try:
        yield
    except RunError as error:
        message = str(error)
    if messages := list(filter(None, gather(message, processes))):
        raise RunError(messages[0])
