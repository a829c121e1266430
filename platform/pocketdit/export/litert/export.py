"""Export a network to LiteRT, as a folder of .tflite files with a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketdit.artifacts.notice import copy_notice
from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import DECODER, TRANSFORMER
from pocketdit.export.common.bundle_folder import replace_bundle
from pocketdit.export.common.comparison import Comparison, compare
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.manifest import build_manifest, write_manifest
from pocketdit.export.common.subject import Subject
from pocketdit.export.common.text_graphs import ExportedText, load_texts, text_graphs
from pocketdit.export.common.verify import compare_texts
from pocketdit.export.litert.convert import Conversion, convert, require_within
from pocketdit.export.litert.dependency import require_litert
from pocketdit.export.litert.graphs import VELOCITY, NamedGraph, build_graphs, example_inputs
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.export.litert.settings import LiteRTExport

# Approximate time to convert one transformer block on one core.
SECONDS_PER_BLOCK = 8


@dataclass(frozen=True)
class ExportedModel:
    """The exported transformer.

    Attributes:
        file: Path of the file in its bundle.
        image_size: Image height and width in pixels.
        inputs: Example inputs.
    """

    file: Path
    image_size: tuple[int, int]
    inputs: dict[str, Tensor]


def export_litert(settings: LiteRTExport) -> ExportedModel:
    """Write a bundle to a folder in ``settings.out``.

    Raises:
        ConfigError: LiteRT is not installed, or the network does not support the settings.
        RunError: A graph cannot be converted, or its outputs differ from PyTorch's outputs. In both cases, no bundle is
            written.
    """
    require_litert()
    subject = load_with_decoder(settings)
    folder = settings.out / subject.name
    depth = sum(1 for _ in subject.network.blocks())
    print(f"converting {depth} transformer blocks (about {SECONDS_PER_BLOCK * depth} s on one core)", flush=True)
    with replace_bundle(folder) as temporary:
        texts = load_texts(settings, subject)
        graphs = {**text_graphs(texts), **graphs_at(subject, settings, settings.times[0])}
        conversions = {name: _convert(graph, temporary / f"{name}.tflite", settings) for name, graph in graphs.items()}
        comparisons = [comparison for conversion in conversions.values() for comparison in conversion.comparisons]
        for text in texts:
            if text is not None:
                text.write_files(temporary)
        comparisons += _compare_others(subject, texts, settings, temporary)
        entries = {name: package_entry(conversion, graphs[name]) for name, conversion in conversions.items()}
        libraries = ("litert-torch", "ai-edge-litert")
        content = build_manifest("litert", settings, subject, entries, texts, comparisons, libraries)
        copy_notice(subject.notice, temporary)
        write_manifest(temporary, content)
    return ExportedModel(folder / f"{TRANSFORMER}.tflite", subject.image_size, graphs[TRANSFORMER].inputs)


def graphs_at(subject: Subject, settings: LiteRTExport, time: float) -> dict[str, Graph]:
    """Build the graphs of the network with example inputs at the given time."""
    inputs = example_inputs(subject.network.spec, subject.latent_size, subject.text_lengths, time, settings.seed)
    return build_graphs(subject.network, subject.decoder.module if subject.decoder else None, inputs)


def _convert(graph: Graph, path: Path, settings: LiteRTExport) -> Conversion:
    try:
        conversion = convert(NamedGraph(graph), graph.inputs, path, settings.precision, settings.tolerance)
    except RunError as error:
        if path.stem != DECODER:
            raise
        raise RunError(f"{error}; export a tiny decoder instead with: decoder=RUN") from error
    print(
        f"{path.stem}: converted in {conversion.seconds:.0f} s: {conversion.operations} operations, "
        f"{conversion.bytes / 1e6:.1f} MB"
    )
    label = f"{{}} at time {settings.times[0]:g}" if path.stem == TRANSFORMER else f"{path.stem}: {{}}"
    named = tuple(replace(c, output=label.format(c.output)) for c in conversion.comparisons)
    for comparison in named:
        print(comparison, flush=True)
    return replace(conversion, comparisons=named)


@torch.no_grad()
def _compare_others(
    subject: Subject, texts: list[ExportedText | None], settings: LiteRTExport, folder: Path
) -> list[Comparison]:
    """Compare the transformer with PyTorch at the other times, and the text encoders on a tokenized prompt.

    Raises:
        RunError: An output is outside the tolerance.
    """

    def run(name: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return LiteRTModel(folder / f"{name}.tflite", settings.litert.threads)(inputs)

    comparisons = list(compare_texts(run, texts, subject, folder))
    for time in settings.times[1:]:
        graph = graphs_at(subject, settings, time)[TRANSFORMER]
        expected = graph.module(*graph.inputs.values())
        comparisons.append(compare(f"velocity at time {time:g}", run(TRANSFORMER, graph.inputs)[VELOCITY], expected))
    for comparison in comparisons:
        print(comparison, flush=True)
    require_within(settings.tolerance, comparisons, folder)
    return comparisons


def package_entry(conversion: Conversion, graph: Graph) -> dict[str, Any]:
    """Return the manifest's entry for a .tflite file."""
    return {
        "file": conversion.path.name,
        "inputs": {name: tensor_entry(value) for name, value in graph.inputs.items()},
        "outputs": {name: tensor_entry(value) for name, value in conversion.outputs.items()},
        "operations": conversion.operations,
        "bytes": conversion.bytes,
        "seconds": conversion.seconds,
    }


def tensor_entry(value: Tensor) -> dict[str, Any]:
    """Return the shape and the type of a tensor."""
    return {"shape": list(value.shape), "dtype": "float32" if value.is_floating_point() else "int32"}
