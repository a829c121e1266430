"""Exchanges plain values between the processes of a run."""

from typing import TypeVar

import torch

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
