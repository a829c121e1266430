"""Random draws that depend on where a run is, not on how it got there.

Every step has a generator of its own, made from the seed, the step and the rank. A resumed run draws what an
uninterrupted one would have drawn, with no generator state in the checkpoint.
"""

import hashlib
from collections.abc import Sequence

import torch


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by a hash of ``parts``, for example ("times", seed, step, rank)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def choose(options: Sequence[float], *parts: int | str) -> float:
    """One of the options, uniformly; the same on every rank when the rank is not among the parts."""
    return options[int(torch.randint(len(options), (1,), generator=generator(*parts)))]
