"""Random draws that depend on the position in a run, not on its history.

Every draw has its own generator, seeded with the run's seed, the step and the rank. A resumed run therefore draws what
an uninterrupted run would have drawn, without generator state in the checkpoint.
"""

import hashlib
from collections.abc import Sequence

import torch


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that is seeded with a hash of ``parts``, for example ("time", seed, step, rank)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def choose(options: Sequence[float], *parts: int | str) -> float:
    """Choose one of the options uniformly at random. Without the rank in ``parts``, every rank chooses the same."""
    return options[int(torch.randint(len(options), (1,), generator=generator(*parts)))]
