"""The modules of a bundle of packages, and the inputs of the packages."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.example import noised_latents
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.kept_lora import LORA_SCALE, ScaledNetwork
from pocketdit.export.common.subject import Subject
from pocketdit.mobile.attention import Blockwise
from pocketdit.mobile.build import build_mobile_form
from pocketdit.mobile.dit import MobileTextProjection
from pocketdit.mobile.weights import TEXT_PREFIX, mobile_name
from pocketdit.seeding import generator


@dataclass(frozen=True)
class Example:
    """Inputs for one evaluation of the network.

    Attributes:
        latents: Noisy latents (B, C, h, w).
        time: Time (B,).
        text: Tokens from each text encoder.
    """

    latents: Tensor
    time: Tensor
    text: list[TextTokens]


def make_example(subject: Subject, batch: int, time: float, seed: int) -> Example:
    """Create random latents with the noise level of ``time``, and random text with padding at its end."""
    rng = generator("example", seed, str(time))
    spec = subject.network.spec
    latents = noised_latents(spec, batch, subject.latent_size, time, rng)
    text = []
    for length, width in zip(subject.text_lengths, spec.text_inputs, strict=True):
        unpadded = torch.randint(1, length + 1, (batch, 1), generator=rng)
        text.append(TextTokens(torch.randn(batch, length, width, generator=rng), torch.arange(length) < unpadded))
    return Example(latents, torch.full((batch,), time), text)


def text_projection_inputs(text: list[TextTokens]) -> dict[str, Tensor]:
    """Return the named inputs of the text projection: the embeddings from all encoders, then the masks."""
    embeddings = {f"embeddings_{index}": tokens.embeddings for index, tokens in enumerate(text)}
    return embeddings | {f"mask_{index}": tokens.mask.float() for index, tokens in enumerate(text)}


class FlatTextProjection(nn.Module):
    """A wrapper around ``MobileTextProjection`` that takes one positional argument per tensor."""

    def __init__(self, projection: MobileTextProjection) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Project the text. The arguments are the embeddings from all encoders, then the masks."""
        count = len(tensors) // 2
        projected: tuple[Tensor, Tensor] = self.projection(tensors[:count], tensors[count:])
        return projected


class Decode(nn.Module):
    """A wrapper around a decoder. Its forward pass calls the decoder's ``decode``."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, H, W) in [-1, 1]."""
        images: Tensor = self.decoder.decode(latents)  # type: ignore[operator]  # not in torch's annotations
        return images


def build_graphs(subject: Subject, example: Example, blockwise: Blockwise, query_chunk: int) -> dict[str, Graph]:
    """Build the graph of each package in a bundle.

    Args:
        subject: The network in the training form, and its decoder.
        example: Example inputs. The text projection and the transformer get the same batch size as these inputs.
        blockwise: Whether ASSA computes its blocks in a loop or as one batch.
        query_chunk: Number of queries that attend to all keys at a time; 0 processes all of them at once.

    Raises:
        ConfigError: The mobile form of the network does not support the settings.
    """
    try:
        transformer, projection = build_mobile_form(subject.network, subject.latent_size, blockwise, query_chunk)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    text_inputs = text_projection_inputs(example.text)
    text, text_bias = FlatTextProjection(projection)(*text_inputs.values())
    inputs = {"latents": example.latents, "time": example.time, "text": text, "text_bias": text_bias}
    network: nn.Module = transformer
    if subject.lora:
        network, inputs = ScaledNetwork(transformer, subject.lora), {**inputs, LORA_SCALE: torch.ones(1)}
    palettes = {mobile_name(layer): palette for layer, palette in subject.palettes.items()}
    text_palettes = {layer: palette for layer, palette in palettes.items() if layer.startswith(TEXT_PREFIX)}
    graphs = {
        TEXT_PROJECTION: Graph(
            FlatTextProjection(projection),
            text_inputs,
            ("text", "text_bias"),
            palettes={layer.replace("text", "projection", 1): palette for layer, palette in text_palettes.items()},
        ),
        TRANSFORMER: Graph(
            network,
            inputs,
            ("velocity",),
            exact=("time",),
            palettes={layer: palette for layer, palette in palettes.items() if layer not in text_palettes},
        ),
    }
    if subject.decoder is not None:
        graphs[DECODER] = Graph(Decode(subject.decoder.module), {"latents": example.latents[:1]}, ("image",))
    return graphs
