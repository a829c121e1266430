"""Export a network to LiteRT, as a folder with a .tflite file and its manifest."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketdit.artifacts.notice import copy_notice
from pocketdit.config.typed import plain
from pocketdit.export.common.bundle_files import FORMAT, MANIFEST, TFLITE
from pocketdit.export.common.bundle_folder import replace_bundle
from pocketdit.export.common.comparison import Comparison, compare
from pocketdit.export.common.manifest import image_entry, sampling_entry, software_entries, weights_entry
from pocketdit.export.common.subject import Subject, load_subject
from pocketdit.export.litert.convert import Conversion, convert, require_within
from pocketdit.export.litert.dependency import require_litert
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.export.litert.network import VELOCITY, NamedInputs, example_inputs
from pocketdit.export.litert.settings import LiteRTExport

# Approximate time to convert one transformer block on one core.
SECONDS_PER_BLOCK = 8


@dataclass(frozen=True)
class ExportedModel:
    """An exported .tflite file.

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
        RunError: The network cannot be converted, or its outputs differ from those of PyTorch. No bundle is written.
    """
    require_litert()
    subject = load_subject(settings)
    folder = settings.out / subject.name
    spec = subject.network.spec
    inputs = {
        time: example_inputs(spec, subject.latent_size, subject.text_lengths, time, settings.seed)
        for time in settings.times
    }
    depth = sum(level.depth for level in spec.levels)
    print(f"converting {depth} transformer blocks (about {SECONDS_PER_BLOCK * depth} s on one core)", flush=True)
    with replace_bundle(folder) as temporary:
        conversion = convert_and_compare(settings, subject, inputs, temporary / TFLITE)
        content = build_manifest(settings, subject, LiteRTModel(temporary / TFLITE), conversion)
        (temporary / MANIFEST).write_text(json.dumps(content, indent=2, default=str) + "\n")
        copy_notice(subject.notice, temporary)
    return ExportedModel(folder / TFLITE, subject.image_size, inputs[settings.times[0]])


def convert_and_compare(
    settings: LiteRTExport, subject: Subject, inputs: dict[float, dict[str, Tensor]], path: Path
) -> Conversion:
    """Convert the network with the inputs for the first of ``times``, and compare it with PyTorch at all ``times``."""
    module = NamedInputs(subject.network)
    first, *others = settings.times
    conversion = convert(module, inputs[first], path, settings.precision, settings.tolerance)
    print(
        f"converted in {conversion.seconds:.0f} s: {conversion.operations} operations, {conversion.bytes / 1e6:.1f} MB"
    )
    print(Comparison(f"velocity at time {first:g}", conversion.error, conversion.snr), flush=True)
    model = LiteRTModel(path, settings.litert.threads)
    for time in others:
        with torch.no_grad():
            expected = module(**inputs[time])[VELOCITY]
        comparison = compare(f"velocity at time {time:g}", model(inputs[time])[VELOCITY], expected)
        print(comparison, flush=True)
        require_within(settings.tolerance, [comparison], path)
    return conversion


def build_manifest(
    settings: LiteRTExport, subject: Subject, model: LiteRTModel, conversion: Conversion
) -> dict[str, Any]:
    """Return the manifest as JSON values: signature, sampling times, text encoders and origin of the weights."""
    return {
        "format": FORMAT,
        "name": subject.name,
        "file": TFLITE,
        "weights": weights_entry(subject),
        "network": {"width": settings.width, "hidden": subject.network.spec.width, "precision": settings.precision},
        "image": image_entry(subject),
        "inputs": model.inputs,
        "outputs": {VELOCITY: model.inputs["latents"]},
        "sampling": sampling_entry(subject.experiment.sampling),
        "text_encoders": plain(subject.experiment.text_encoders),
        "autoencoder": plain(subject.experiment.autoencoder),
        "conversion": {name: value for name, value in asdict(conversion).items() if name != "path"},
        **software_entries("litert-torch", "ai-edge-litert"),
        "settings": plain(settings),
    }
