"""The graphs of a LiteRT bundle in the training form, with named inputs of fixed sizes and named outputs.

The mobile form is not used, because it is not faster on a CPU and has three to six times as many operations in LiteRT's
graph: XNNPACK's softmax and matrix product expect channels on the last axis.

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = text tokens.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pocketdit.backbones.build import Backbone, build_network
from pocketdit.backbones.dit import TextProjection
from pocketdit.backbones.spec import FULL_WIDTH, BackboneSpec
from pocketdit.encoders.contract import TextTokens
from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.example import noised_latents
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.graphs import Decode
from pocketdit.seeding import generator

VELOCITY = "velocity"


class NamedGraph(nn.Module):
    """A graph as LiteRT Torch expects it: with keyword arguments and a dictionary of outputs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.module = graph.module
        self.names, self.outputs = tuple(graph.inputs), graph.outputs

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Run the module and return its named outputs."""
        results = self.module(*(inputs[name] for name in self.names))
        return dict(zip(self.outputs, [results] if isinstance(results, Tensor) else results, strict=True))


class ProjectText(nn.Module):
    """The text projection with one positional argument per tensor: the embeddings, then the masks."""

    def __init__(self, projection: TextProjection) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens (B, L, width) and their mask (B, L), which is 1 for visible tokens and 0 for others."""
        count = len(tensors) // 2
        pairs = zip(tensors[:count], tensors[count:], strict=True)
        tokens, mask = self.projection([TextTokens(embeddings, mask > 0.5) for embeddings, mask in pairs])
        return tokens, mask.float()


class _AlreadyProjected(nn.Module):
    """Replaces the text projection in a network that receives projected text."""

    def forward(self, text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return text


class Transformer(nn.Module):
    """A standalone network without its text projection.

    Args:
        network: Network of one width.

    Raises:
        ValueError: The network has several widths.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        if network.spec.widths != (FULL_WIDTH,):
            raise ValueError("the network has several widths; extract a sub-network first")
        with torch.device("meta"):
            self.network = build_network(network.spec)
        self.network.text = _AlreadyProjected()  # type: ignore[assignment]
        weights = {name: value for name, value in network.state_dict().items() if not name.startswith("text.")}
        self.network.load_state_dict(weights, assign=True)
        self.requires_grad_(False).eval()

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Predict the velocity (B, C, h, w).

        Args:
            latents: Noisy latents (B, C, h, w).
            time: Time (B,).
            text: Tokens (B, L, width) from ``ProjectText``.
            text_mask: Mask (B, L) of the tokens.
        """
        velocity: Tensor = self.network(latents, time, (text, text_mask > 0.5))
        return velocity


@torch.no_grad()
def build_graphs(network: Backbone, decoder: nn.Module | None, inputs: Mapping[str, Tensor]) -> dict[str, Graph]:
    """Build the graphs of the text projection, the transformer and the decoder, keyed by package name.

    Args:
        network: Network of one width.
        decoder: Module with a method ``decode``, or None if the bundle has no decoder.
        inputs: Example inputs (see ``example_inputs``).
    """
    latents = {name: inputs[name] for name in ("latents", "time")}
    names = [f"{kind}_{i}" for kind in ("embeddings", "mask") for i in range(len(network.spec.text_inputs))]
    text_inputs = {name: inputs[name] for name in names}
    project = ProjectText(network.text)
    text, text_mask = project(*text_inputs.values())
    graphs = {
        TEXT_PROJECTION: Graph(project, text_inputs, ("text", "text_mask")),
        TRANSFORMER: Graph(Transformer(network), latents | {"text": text, "text_mask": text_mask}, (VELOCITY,)),
    }
    if decoder is not None:
        graphs[DECODER] = Graph(Decode(decoder), {"latents": inputs["latents"]}, ("image",))
    return graphs


def example_inputs(
    spec: BackboneSpec, latent_size: tuple[int, int], text_lengths: Sequence[int], time: float = 0.5, seed: int = 0
) -> dict[str, Tensor]:
    """Create random inputs of batch size 1 for the text projection and the transformer.

    Args:
        spec: Description of the network.
        latent_size: Latent height and width.
        text_lengths: Number of tokens from each text encoder. The last quarter of the tokens is padding.
        time: Time in [0, 1], which determines the noise level of the latents.
        seed: Seed of all random numbers.

    Returns:
        The named inputs.
    """
    rng = generator("litert", seed, f"{time:g}")
    inputs = {"latents": noised_latents(spec, 1, latent_size, time, rng), "time": torch.tensor([time])}
    for i, (length, width) in enumerate(zip(text_lengths, spec.text_inputs, strict=True)):
        inputs[f"embeddings_{i}"] = torch.randn(1, length, width, generator=rng)
        inputs[f"mask_{i}"] = (torch.arange(length)[None] < length - length // 4).float()
    return inputs
