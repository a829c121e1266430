"""The interface of a network in a .tflite file: named inputs of fixed sizes and one output.

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = tokens of a text encoder.
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
    """A standalone network in the training form, with named inputs.

    It includes the text projection, which accounts for only a thousandth of the arithmetic. The mobile form is not
    used, because it is not faster on a CPU and has three to six times as many operations in LiteRT's graph: XNNPACK's
    softmax and matrix product expect channels on the last axis.

    Args:
        network: Network of one width.

    Raises:
        ValueError: The network has several widths.
    """

    def __init__(self, network: ElasticDiT) -> None:
        super().__init__()
        if network.spec.widths != (FULL_WIDTH,):
            raise ValueError("the network has several widths; extract a sub-network first")
        self.network = network

    def forward(self, latents: Tensor, time: Tensor, **text: Tensor) -> dict[str, Tensor]:
        """Predict the velocity (B, C, h, w).

        Args:
            latents: Noisy latents (B, C, h, w).
            time: Time (B,).
            **text: For each text encoder I, ``embeddings_I`` (B, L, width) and ``mask_I`` (B, L), which is 0 or 1.
        """
        tokens = [
            TextTokens(text[f"embeddings_{i}"], text[f"mask_{i}"] > 0.5)
            for i in range(len(self.network.spec.text_inputs))
        ]
        return {VELOCITY: self.network(latents, time, tokens)}


def example_inputs(
    spec: DiTSpec, latent_size: tuple[int, int], text_lengths: Sequence[int], time: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """Create random inputs of batch size 1 for ``NamedInputs``.

    Args:
        spec: Description of the network.
        latent_size: Latent height and width.
        text_lengths: Number of tokens from each text encoder. The last quarter of them is padding.
        time: Time in [0, 1], which determines the noise level of the latents.
        seed: Seed of all random numbers.

    Returns:
        Inputs by name.
    """
    rng = generator("litert", seed, f"{time:g}")
    inputs = {"latents": noised_latents(spec, 1, latent_size, time, rng), "time": torch.tensor([time])}
    for i, (length, width) in enumerate(zip(text_lengths, spec.text_inputs, strict=True)):
        inputs[f"embeddings_{i}"] = torch.randn(1, length, width, generator=rng)
        inputs[f"mask_{i}"] = (torch.arange(length)[None] < length - length // 4).float()
    return inputs
