"""Text conditions of a batch, and their dropping for classifier-free guidance.

Only masks change: the backbone has a learned token of its own that is always visible, so a sample without any
text token is legal.
"""

from collections.abc import Sequence

import torch

from pocketdit.encoders.contract import TextEncoder, TextTokens


def encode_text(encoders: Sequence[TextEncoder], captions: Sequence[str]) -> list[TextTokens]:
    """What every encoder makes of B captions, in the order of ``encoders``."""
    return [encoder.encode(captions) for encoder in encoders]


def drop(tokens: Sequence[TextTokens], probability: float, generator: torch.Generator) -> list[TextTokens]:
    """Hide each encoder from each sample with ``probability``, independently (paper Sec. 4.1).

    So the network also learns to work with any part of the encoders. A sample loses all n of them, which
    trains the unconditional prediction, with ``probability ** n``: two encoders at 0.32 give 0.1.
    ``generator`` is on the CPU.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], not {probability}")
    samples = tokens[0].mask.shape[0] if tokens else 0
    kept = torch.rand(samples, len(tokens), generator=generator) >= probability
    return [
        encoded._replace(mask=encoded.mask & kept[:, i, None].to(encoded.mask.device))
        for i, encoded in enumerate(tokens)
    ]


def unconditional(tokens: Sequence[TextTokens]) -> list[TextTokens]:
    """The same batch with every token hidden."""
    return [encoded._replace(mask=torch.zeros_like(encoded.mask)) for encoded in tokens]
