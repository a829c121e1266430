"""What is exported: a network of one width with what surrounds it, from a run or from a description alone."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from pocketdit.artifacts.decoder import load_decoder, require_decoder_of
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.by_width import standalone
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import Component, build, import_class
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from pocketdit.export.settings import Export
from pocketdit.files import sha256_of
from pocketdit.quantization.palette import Palette, load_palettes
from pocketdit.seeding import generator

RANDOM = "random weights"


@dataclass(frozen=True)
class Subject:
    """``run``: its full name, empty for random weights. ``network``: standalone. ``size``: latent sides.
    ``text_lengths``: tokens of every encoder, the learned one not counted. ``weights``: SHA-256 of the run's weights,
    or ``RANDOM``. ``decoder``: None where there is none to export. ``palettes``: of the training form's layers by
    name, where the run is quantised. ``decoder_run``: of a tiny decoder; empty where it is the autoencoder's own.
    """

    name: str
    run: str
    experiment: Experiment
    network: ElasticDiT
    size: tuple[int, int]
    text_lengths: tuple[int, ...]
    weights: str
    decoder: nn.Module | None
    palettes: dict[str, Palette]
    decoder_run: str = ""


def load_subject(settings: Export) -> Subject:
    """``ConfigError`` for a width or size that the network does not have; ``RunError`` where the run is not whole."""
    folder = find(settings.runs, settings.run) if settings.run else None
    experiment = load_experiment(folder) if folder else described(settings)
    spec = experiment.backbone
    if settings.width not in spec.widths:
        known = ", ".join(f"{width:g}" for width in sorted(spec.widths))
        raise ConfigError(f"width={settings.width:g}: {settings.run or settings.experiment} has {known}")
    size = latent_size(settings, experiment)
    decoder: nn.Module | None = None
    decoder_run = ""
    if settings.decoder is not None:
        trained = find(settings.runs, settings.decoder)
        require_decoder_of(experiment, trained)
        decoder, decoder_run = load_decoder(trained), trained.name
    elif folder:  # without a run there may be no autoencoder's weights either
        decoder = build(experiment.autoencoder)
    if folder:
        network = standalone(load_network(folder), settings.width)
        weights, palettes = sha256_of(folder.weights), palettes_of(folder)
    else:
        network, weights, palettes = randomised(experiment, settings), RANDOM, {}
    lengths = tuple(max_tokens(encoder) for encoder in experiment.text_encoders)
    run = folder.name if folder else ""
    name = bundle_name(settings, folder)
    return Subject(name, run, experiment, network, size, lengths, weights, decoder, palettes, decoder_run)


def palettes_of(folder: RunFolder) -> dict[str, Palette]:
    return load_palettes(folder.palettes) if folder.palettes.is_file() else {}


def described(settings: Export) -> Experiment:
    assert settings.experiment is not None
    return load(settings.experiment, [], Experiment).config


def latent_size(settings: Export, experiment: Experiment) -> tuple[int, int]:
    """Latent sides of the wanted picture. Every autoencoder here is 8 times smaller (``Experiment`` checks so, too)."""
    height, width = settings.pixels or experiment.sampling.size
    multiple = 8 * experiment.backbone.multiple
    if min(height, width) < multiple or height % multiple or width % multiple:
        raise ConfigError(f"size={height}x{width}: sides must be multiples of {multiple} pixels for this network")
    return height // 8, width // 8


def max_tokens(encoder: Component) -> int:
    """How many tokens a text encoder gives, from its description: it may not be on this machine."""
    default = inspect.signature(import_class(encoder.class_path)).parameters["max_tokens"].default
    return int(encoder.init_args.get("max_tokens", default))


def bundle_name(settings: Export, folder: RunFolder | None) -> str:
    """Of the bundle's folder."""
    source = folder.name.replace("/", "-") if folder else f"{Path(settings.experiment or '').stem}-random"
    size = f"-{settings.size}" if settings.size else ""
    usual = {one.name: one.default for one in fields(Export)}
    special = "".join(
        f"-{name.replace('_', '')}_{str(value).replace('/', '-')}"
        for name in ("batch", "target", "blockwise", "query_chunk", "decoder")
        if (value := getattr(settings, name)) != usual[name]
    )
    return f"{settings.export}-{source}-{settings.width:g}x{size}-{settings.precision}{special}"


def randomised(experiment: Experiment, settings: Export) -> ElasticDiT:
    """A network of which every weight takes part in the output, unlike a fresh one; the same for the same seed.

    Matrices have variance 1 / inputs, norms and gates are about 1, everything else is small.
    """
    with torch.device("meta"):
        network = standalone(ElasticDiT(experiment.backbone), settings.width)
    network.to_empty(device="cpu")
    draw = generator("export", settings.seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1 and not name.endswith(("offsets", "null")):
                value.normal_(std=(value.shape[0] / value.numel()) ** 0.5, generator=draw)
            else:
                value.normal_(std=0.1, generator=draw)
                if "norm" in name and name.endswith("weight"):
                    value.add_(1)
                if name.endswith("offsets") and len(value) == 6:
                    value[[2, 5]] += 1
    return network.requires_grad_(False).eval()
