"""Load the network to export from a run, or create it with random weights from the YAML file of an experiment."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.notice import read_notice
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.build import Backbone, build_network
from pocketdit.backbones.per_width import Network, standalone_network
from pocketdit.backbones.unet import UNet
from pocketdit.config.declared import latent_factor, latent_sides, text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.config.load import load
from pocketdit.counts import counted
from pocketdit.errors import ConfigError
from pocketdit.export.common.float16 import require_float16_range
from pocketdit.export.common.kept_lora import load_factors, require_lora
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.text_subset import keep_layers, keep_text_encoders
from pocketdit.files import sha256_of
from pocketdit.quantization.palette import Palette, load_palettes
from pocketdit.running.sampling_memory import require_sampling_memory
from pocketdit.seeding import generator
from pocketdit.stages.quantize_finetune import QuantizeFinetune

RANDOM = "random weights"


@dataclass(frozen=True)
class ImageDecoder:
    """The decoder that is exported along with the network.

    Attributes:
        module: Module whose method ``decode`` maps latents (B, C, h, w) to images (B, 3, H, W) in [-1, 1].
        run: Full name of the run that trained the tiny decoder. Empty for the decoder of the autoencoder.
    """

    module: nn.Module
    run: str = ""


@dataclass(frozen=True)
class Subject:
    """The network to export and its properties.

    Attributes:
        name: Name of the bundle's folder.
        run: Full name of the run. Empty for random weights.
        experiment: Configuration of the run.
        network: Standalone network of one width.
        image_size: Image height and width in pixels.
        latent_size: Latent height and width.
        text_lengths: Number of tokens from each text encoder, excluding the learned null token.
        weights: SHA-256 of the weights file, or ``RANDOM``.
        palettes: Palette of each quantized layer, under the layer's name in the training form.
        decoder: Decoder that is exported with the network, if any.
        notice: Notices of all runs whose weights are exported (see ``artifacts/notice.py``).
        lora: Factors of a LoRA that is kept separate from the weights of ``network`` (see ``load_factors``).
    """

    name: str
    run: str
    experiment: Experiment
    network: Backbone
    image_size: tuple[int, int]
    latent_size: tuple[int, int]
    text_lengths: tuple[int, ...]
    weights: str
    palettes: dict[str, Palette]
    decoder: ImageDecoder | None = None
    notice: str = ""
    lora: Mapping[str, Tensor] = field(default_factory=dict)


def load_subject(settings: BaseExport, keep_lora: bool = False) -> Subject:
    """Load or create the network that ``settings`` describes, without a decoder.

    Args:
        settings: Settings of the export.
        keep_lora: Whether the LoRA of a fine-tuned run is kept separate instead of being merged into the weights.

    Raises:
        ConfigError: The network does not have this width, does not support this image size or has no LoRA to keep, or a
            weight is beyond the range of float16.
        RunError: A file of the run is missing or damaged.
    """
    folder = find(settings.runs, settings.run) if settings.run else None
    experiment = load_experiment(folder) if folder else _described_experiment(settings)
    spec = experiment.backbone
    if settings.width not in spec.widths:
        available = ", ".join(f"{width:g}" for width in sorted(spec.widths))
        raise ConfigError(
            f"width={settings.width:g}: {settings.run or settings.experiment} only has the widths {available}"
        )
    image_size = settings.image_size or experiment.sampling.size
    latent_size = require_latent_size(experiment, image_size)
    require_sampling_memory(experiment, image_size, 1, "size")
    lora: dict[str, Tensor] = {}
    if keep_lora and not folder:
        raise ConfigError("lora=kept: random weights have no LoRA; use lora=merged")
    if folder:
        if keep_lora:
            require_lora(folder)
        network = exported_network(load_network(folder, lora_scale=0.0 if keep_lora else 1.0), settings.width)
        lora = load_factors(folder, network) if keep_lora else {}
        weights = sha256_of(folder.weights)
        palettes = load_palettes(folder.palettes) if is_quantized(folder, experiment) else {}
    else:
        network, weights, palettes = random_network(experiment, settings.width, settings.seed), RANDOM, {}
    if settings.precision == "float16":
        require_float16_range({**network.state_dict(), **lora}, folder.name if folder else str(settings.experiment))
    subject = Subject(
        bundle_name(settings, folder), folder.name if folder else "", experiment, network, image_size, latent_size,
        tuple(text_lengths(experiment.text_encoders)), weights, palettes,
        notice=read_notice(folder) if folder else "", lora=lora,
    )  # fmt: skip
    return subject if settings.text_encoders is None else _select_text_encoders(subject, settings.text_encoders)


def _select_text_encoders(subject: Subject, kept: Sequence[int]) -> Subject:
    encoders = subject.experiment.text_encoders
    if not kept or kept[-1] >= len(encoders):
        raise ConfigError(
            f"text_encoders={list(kept)}: must contain at least one position from 0 to {len(encoders) - 1}, because "
            f"the network has {counted(len(encoders), 'text encoder')}"
        )
    network = keep_text_encoders(subject.network, kept)
    return replace(
        subject,
        experiment=replace(
            subject.experiment,
            text_encoders=tuple(encoders[position] for position in kept),
            backbone=replace(subject.experiment.backbone, text_inputs=network.spec.text_inputs),
        ),
        network=network,
        text_lengths=tuple(subject.text_lengths[position] for position in kept),
        palettes=keep_layers(subject.palettes, kept),
        lora=keep_layers(subject.lora, kept),
    )


def is_quantized(folder: RunFolder, experiment: Experiment) -> bool:
    """Return whether a run is quantized, even if its palettes are missing."""
    return os.path.lexists(folder.palettes) or issubclass(import_class(experiment.stage.class_path), QuantizeFinetune)


def _described_experiment(settings: BaseExport) -> Experiment:
    assert settings.experiment is not None
    return load(settings.experiment, [], Experiment).config


def require_latent_size(experiment: Experiment, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the latent height and width for an image size in pixels.

    Raises:
        ConfigError: The network does not support this image size.
    """
    height, width = image_size
    multiple = latent_factor(experiment.autoencoder) * experiment.backbone.latent_multiple
    if min(height, width) < multiple or height % multiple or width % multiple:
        raise ConfigError(f"size={height}x{width}: both sides must be multiples of {multiple} pixels for this network")
    return latent_sides(experiment.autoencoder, image_size)


def bundle_name(settings: BaseExport, folder: RunFolder | None) -> str:
    """Return the name of the bundle's folder, which encodes the settings that identify the bundle."""
    source = folder.name.replace("/", "-") if folder else f"{Path(settings.experiment or '').stem}-random"
    size = f"-{settings.size}" if settings.size else ""
    defaults = {field.name: field.default for field in fields(settings)}
    options = "".join(
        f"-{name.replace('_', '')}_{_in_name(value)}"
        for name in settings.in_bundle_name
        if (value := getattr(settings, name)) != defaults[name]
    )
    return f"{settings.export}-{source}-{settings.width:g}x{size}-{settings.precision}{options}"


def _in_name(value: object) -> str:
    """Format the value of a setting for use in a file name."""
    return "_".join(map(str, value)) if isinstance(value, tuple) else str(value).replace("/", "-")


def exported_network(network: Network, width: float) -> Backbone:
    """Return the standalone network for a width. A U-Net has only one width."""
    return network if isinstance(network, UNet) else standalone_network(network, width)


def random_network(experiment: Experiment, width: float, seed: int) -> Backbone:
    """Create a standalone network with random weights that depend only on the seed.

    Unlike in a newly initialized network, all weights influence the output. The elements of a matrix have the variance
    1 / (number of inputs), norms and gates are close to 1, and all other weights are small.
    """
    with torch.device("meta"):
        network = build_network(experiment.backbone.standalone(width))
    network.to_empty(device="cpu")
    rng = generator("export", seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1 and not name.endswith(("offsets", "null")):
                value.normal_(std=(value.shape[0] / value.numel()) ** 0.5, generator=rng)
            else:
                value.normal_(std=0.1, generator=rng)
                if "norm" in name and name.endswith("weight"):
                    value.add_(1)
                if name.endswith("offsets") and len(value) == 6:
                    value[[2, 5]] += 1
    return network.requires_grad_(False).eval()
