"""A network of one width as a .tflite file shows it: named inputs of fixed sizes and one output.

Shape letters: B batch, C latent channels, h x w latent sides, L tokens of a text encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import FULL, DiTSpec
from pocketdit.encoders.contract import TextTokens
from pocketdit.seeding import generator

VELOCITY = "velocity"


class NamedInputs(nn.Module):
    """A standalone network in the training form, the text projection included (a thousandth of the arithmetic).

    The mobile form has three to six times as many operations in LiteRT's graph, because XNNPACK's softmax and
    matrix product want the channels last, and is no faster on a CPU.
    """

    def __init__(self, network: ElasticDiT) -> None:
        super().__init__()
        if network.spec.widths != (FULL,):
            raise ValueError("the network must be of one width: extract it first")
        self.network = network

    def forward(self, latents: Tensor, time: Tensor, **text: Tensor) -> dict[str, Tensor]:
        """latents (B, C, h, w), time (B,); of every encoder I embeddings_I (B, L, width) and mask_I (B, L) of 0 and 1.

        Gives the velocity (B, C, h, w).
        """
        tokens = [
            TextTokens(text[f"embeddings_{i}"], text[f"mask_{i}"] > 0.5)
            for i in range(len(self.network.spec.text_inputs))
        ]
        return {VELOCITY: self.network(latents, time, tokens)}


def example_inputs(
    spec: DiTSpec, size: tuple[int, int], tokens: Sequence[int], time: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """What ``NamedInputs`` takes, for latents of ``size`` and texts of ``tokens`` of which the last quarter is padding.

    Latents are random with the spread that they have at this time.
    """
    draw = generator("litert", seed, f"{time:g}")
    std = torch.tensor(spec.latent_std or [1.0] * spec.latent_channels)[:, None, None]
    clean, noise = (torch.randn(1, spec.latent_channels, *size, generator=draw) for _ in range(2))
    inputs = {"latents": (1 - time) * std * clean + time * noise, "time": torch.tensor([time])}
    for i, (count, width) in enumerate(zip(tokens, spec.text_inputs, strict=True)):
        inputs[f"embeddings_{i}"] = torch.randn(1, count, width, generator=draw)
        inputs[f"mask_{i}"] = (torch.arange(count)[None] < count - count // 4).float()
    return inputs
