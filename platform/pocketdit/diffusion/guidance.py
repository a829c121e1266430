"""Classifier-free guidance (Ho and Salimans 2022)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity
from pocketdit.encoders.contract import TextTokens

# A network as sampling sees it: (x, time, text) -> velocity.
Network = Callable[[Tensor, Tensor, Sequence[TextTokens]], Tensor]


def conditional(network: Network, text: Sequence[TextTokens]) -> Velocity:
    """The velocity with the text alone."""
    return lambda x, time: network(x, time, text)


def guided(network: Network, text: Sequence[TextTokens], negative: Sequence[TextTokens], scale: float) -> Velocity:
    """v = v_negative + scale (v_text - v_negative), both in one batch. ``scale`` 1 is the text alone."""
    if scale == 1.0:
        return conditional(network, text)
    both = [
        TextTokens(torch.cat([a.embeddings, b.embeddings]), torch.cat([a.mask, b.mask]))
        for a, b in zip(text, negative, strict=True)
    ]

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        with_text, without = network(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        return without + scale * (with_text - without)

    return velocity
