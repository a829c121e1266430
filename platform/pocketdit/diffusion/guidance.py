"""Classifier-free guidance (Ho and Salimans 2022)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity
from pocketdit.encoders.contract import TextTokens

VelocityNetwork = Callable[[Tensor, Tensor, Sequence[TextTokens]], Tensor]
"""A network as sampling calls it: (x, time, text) -> velocity."""


def conditional_velocity(network: VelocityNetwork, text: Sequence[TextTokens]) -> Velocity:
    """Return the network's velocity for a text, without guidance."""
    return lambda x, time: network(x, time, text)


def guided_velocity(
    network: VelocityNetwork, text: Sequence[TextTokens], negative: Sequence[TextTokens], scale: float
) -> Velocity:
    """Return the guided velocity v = v_negative + scale (v_text - v_negative).

    The network predicts both velocities in one batch.

    Args:
        network: The network.
        text: Text tokens of every encoder.
        negative: Tokens of the negative (usually unconditional) text of every encoder.
        scale: Guidance scale. 1 is the text alone, with one prediction rather than two.
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
