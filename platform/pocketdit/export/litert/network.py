"""A network of one width as a .tflite file exposes it: named inputs of fixed sizes and one output.

Shape letters: B batch, C latent channels, h x w latent sides, L tokens of a text encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import FULL_WIDTH, DiTSpec
from pocketdit.encoders.contract import TextTokens
from pocketdit.export.common.example import noised_latents
from pocketdit.seeding import generator

VELOCITY = "velocity"


class NamedInputs(nn.Module):
    """A standalone network in the training form with its text projection, which is a thousandth of the arithmetic.

    The mobile form has three to six times as many operations in LiteRT's graph, because XNNPACK's softmax and
    matrix product expect channels last, and it is not faster on a CPU.

    Args:
        network: A network of one width.

    Raises:
        ValueError: The network has several widths.
    """

    def __init__(self, network: ElasticDiT) -> None:
        super().__init__()
        if network.spec.widths != (FULL_WIDTH,):
            raise ValueError("the network has several widths; extract one first")
        self.network = network

    def forward(self, latents: Tensor, time: Tensor, **text: Tensor) -> dict[str, Tensor]:
        """Predict the velocity (B, C, h, w).

        Args:
            latents: (B, C, h, w).
            time: (B,).
            text: For every encoder I, ``embeddings_I`` (B, L, width) and ``mask_I`` (B, L) of 0 and 1.
        """
        tokens = [
            TextTokens(text[f"embeddings_{i}"], text[f"mask_{i}"] > 0.5)
            for i in range(len(self.network.spec.text_inputs))
        ]
        return {VELOCITY: self.network(latents, time, tokens)}


def example_inputs(
    spec: DiTSpec, latent_size: tuple[int, int], text_lengths: Sequence[int], time: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """Random inputs for ``NamedInputs``, batch size 1.

    Args:
        spec: The network.
        latent_size: Latent height and width.
        text_lengths: Tokens per text encoder; the last quarter is padding.
        time: Latents have the spread that the network sees at this time.
        seed: Seed of all random numbers.
    """
    rng = generator("litert", seed, f"{time:g}")
    inputs = {"latents": noised_latents(spec, 1, latent_size, time, rng), "time": torch.tensor([time])}
    for i, (length, width) in enumerate(zip(text_lengths, spec.text_inputs, strict=True)):
        inputs[f"embeddings_{i}"] = torch.randn(1, length, width, generator=rng)
        inputs[f"mask_{i}"] = (torch.arange(length)[None] < length - length // 4).float()
    return inputs
