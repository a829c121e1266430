"""The graphs of a Core AI bundle."""

from dataclasses import replace

from pocketdit.backbones.unet import UNet
from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import TRANSFORMER
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.graphs import build_graphs, make_example
from pocketdit.export.common.subject import Subject
from pocketdit.export.coreai.fused import FusedTransformer
from pocketdit.export.coreai.settings import CoreAIExport
from pocketdit.mobile.weights import TEXT_PREFIX


def coreai_graphs(subject: Subject, settings: CoreAIExport) -> dict[str, Graph]:
    """Build the graph of each package in a bundle.

    Raises:
        ConfigError: The form of the transformer does not support the settings.
    """
    example = make_example(subject, settings.batch, settings.times[0], settings.seed)
    graphs = build_graphs(subject, example, settings.blockwise, settings.query_chunk)
    if settings.form == "fused":
        if isinstance(subject.network, UNet):
            raise ConfigError("form=fused: not available for a U-Net; use form=split_einsum")
        palettes = {
            f"network.{layer}": palette
            for layer, palette in subject.palettes.items()
            if not layer.startswith(TEXT_PREFIX)
        }
        fused = FusedTransformer(subject.network)
        graphs[TRANSFORMER] = replace(graphs[TRANSFORMER], module=fused, palettes=palettes)
    return graphs
