"""The three modules of a bundle, with the inputs that their packages take."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.export.convert import Graph
from pocketdit.export.settings import Export
from pocketdit.export.subject import Subject
from pocketdit.mobile.dit import MobileTextProjection, build_mobile
from pocketdit.mobile.weights import mobile_name
from pocketdit.seeding import generator

TRANSFORMER, TEXT, DECODER = "transformer", "text_projection", "decoder"


@dataclass(frozen=True)
class Example:
    """One evaluation of the network: latents (B, C, h, w), times (B,) and what the text encoders gave."""

    latents: Tensor
    time: Tensor
    text: list[TextTokens]


def example(subject: Subject, batch: int, time: float, seed: int) -> Example:
    """Noised latents as the network meets them at this time, and random text with padding at its end."""
    draw = generator("example", seed, str(time))
    spec = subject.network.spec
    std = torch.tensor(spec.latent_std or [1.0] * spec.latent_channels)[:, None, None]
    shape = (batch, spec.latent_channels, *subject.size)
    latents = (1 - time) * std * torch.randn(shape, generator=draw) + time * torch.randn(shape, generator=draw)
    text = []
    for length, width in zip(subject.text_lengths, spec.text_inputs, strict=True):
        real = torch.randint(1, length + 1, (batch, 1), generator=draw)
        text.append(TextTokens(torch.randn(batch, length, width, generator=draw), torch.arange(length) < real))
    return Example(latents, torch.full((batch,), time), text)


def text_inputs(text: list[TextTokens]) -> dict[str, Tensor]:
    """The text projection's inputs by name."""
    embeddings = {f"embeddings_{index}": tokens.embeddings for index, tokens in enumerate(text)}
    return embeddings | {f"mask_{index}": tokens.mask.float() for index, tokens in enumerate(text)}


class FlatText(nn.Module):
    """``MobileTextProjection`` with all tensors as arguments of their own."""

    def __init__(self, projection: MobileTextProjection) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of every encoder, then masks."""
        count = len(tensors) // 2
        return self.projection(tensors[:count], tensors[count:])  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """``decode`` of a module as its forward pass."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W) in [-1, 1]."""
        return self.decoder.decode(latents)  # type: ignore[operator, no-any-return]


def build_graphs(subject: Subject, settings: Export) -> dict[str, Graph]:
    """By the names of their packages. ``ConfigError`` where the network's mobile form does not take the settings."""
    try:
        transformer, projection = build_mobile(subject.network, subject.size, settings.blockwise, settings.query_chunk)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sample = example(subject, settings.batch, settings.times[0], settings.seed)
    given = text_inputs(sample.text)
    text, bias = FlatText(projection)(*given.values())
    inputs = {"latents": sample.latents, "time": sample.time, "text": text, "text_bias": bias}
    palettes = {mobile_name(layer): palette.values for layer, palette in subject.palettes.items()}
    of_text = {layer: values for layer, values in palettes.items() if layer.startswith("text.")}
    graphs = {
        TEXT: Graph(
            FlatText(projection),
            given,
            ("text", "text_bias"),
            palettes={layer.replace("text", "projection", 1): values for layer, values in of_text.items()},
        ),
        TRANSFORMER: Graph(
            transformer,
            inputs,
            ("velocity",),
            exact=("time",),
            palettes={layer: values for layer, values in palettes.items() if layer not in of_text},
        ),
    }
    if subject.decoder is not None:
        one = {"latents": sample.latents[:1]}
        graphs[DECODER] = Graph(Decoder(subject.decoder), one, ("image",))
    return graphs
