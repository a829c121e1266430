"""Reproducible random draws that depend only on the run's seed and the position in the run.

Each draw uses its own generator, seeded with the run's seed and a position, such as the step. A resumed run therefore
makes the same draws as an uninterrupted run, and checkpoints do not need to store generator states.
"""

import hashlib
from collections.abc import Sequence

import torch


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded with a hash of ``parts``, such as ("time", seed, step)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def choose(options: Sequence[float], *parts: int | str) -> float:
    """Choose an option uniformly at random. If ``parts`` does not include the rank, all ranks make the same choice."""
    return options[int(torch.randint(len(options), (1,), generator=generator(*parts)))]
