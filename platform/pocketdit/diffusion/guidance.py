"""Classifier-free guidance (Ho and Salimans 2022)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity
from pocketdit.encoders.contract import TextTokens

VelocityNetwork = Callable[[Tensor, Tensor, Sequence[TextTokens]], Tensor]
"""The signature of a network during sampling: (x, time, text) -> velocity."""


def conditional_velocity(network: VelocityNetwork, text: Sequence[TextTokens]) -> Velocity:
    """Return a function that computes the network's velocity conditioned on the text, without guidance."""
    return lambda x, time: network(x, time, text)


def guided_velocity(
    network: VelocityNetwork, text: Sequence[TextTokens], negative: Sequence[TextTokens], scale: float
) -> Velocity:
    """Return a function that computes the guided velocity v = v_negative + scale (v_text - v_negative).

    The network predicts both velocities in one batch.

    Args:
        network: Network that predicts the velocity.
        text: Text tokens from every encoder.
        negative: Tokens of the negative (usually unconditional) text from every encoder.
        scale: Guidance scale. At 1, only the velocity for the text is predicted.
    """
    if scale == 1.0:
        return conditional_velocity(network, text)
    both = [
        TextTokens(torch.cat([a.embeddings, b.embeddings]), torch.cat([a.mask, b.mask]))
        for a, b in zip(text, negative, strict=True)
    ]

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        v_text, v_negative = network(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        return v_negative + scale * (v_text - v_negative)

    return velocity
