"""Text conditioning of a batch, and text dropout for classifier-free guidance.

Hiding text changes only the masks. A sample may have no visible text tokens at all, because the backbone adds a learned
token that is always visible.
"""

from collections.abc import Sequence

import torch

from pocketdit.encoders.contract import TextEncoder, TextTokens


def encode_text(encoders: Sequence[TextEncoder], captions: Sequence[str]) -> list[TextTokens]:
    """Encode B captions with every encoder, in the order of ``encoders``."""
    return [encoder.encode(captions) for encoder in encoders]


def text_dropout(tokens: Sequence[TextTokens], probability: float, generator: torch.Generator) -> list[TextTokens]:
    """Hide each encoder's tokens in each sample independently at random (paper Sec. 4.1).

    The network thus learns to work with any subset of the encoders. With n encoders, a sample is unconditional with
    probability ``probability ** n``, which is about 0.1 for two encoders and a probability of 0.32.

    Args:
        tokens: One ``TextTokens`` per encoder.
        probability: Probability of hiding an encoder's tokens in a sample.
        generator: Random generator on the CPU.

    Returns:
        The same tokens with new masks.
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
    """Return the same tokens with all of them hidden."""
    return [encoded._replace(mask=torch.zeros_like(encoded.mask)) for encoded in tokens]


def is_empty(prompt: str) -> bool:
    """Return whether a prompt has no text. Such a prompt requests an unconditional sample."""
    return not prompt.strip()


def hide_empty(tokens: Sequence[TextTokens], prompts: Sequence[str]) -> list[TextTokens]:
    """Hide the tokens of empty prompts, for which some encoders return start and end tokens."""
    has_text = torch.tensor([not is_empty(prompt) for prompt in prompts])
    return [encoded._replace(mask=encoded.mask & has_text[:, None].to(encoded.mask.device)) for encoded in tokens]
