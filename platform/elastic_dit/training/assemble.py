"""From a configuration to objects, encoders, network, stage and data, and from a run's files to its network."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file
from torch import Tensor

from elastic_dit.backbones.by_width import LORA, NETWORKS, ByWidth, Network, merge, split, standalone
from elastic_dit.backbones.dit import ElasticDiT, Stage
from elastic_dit.config.component import build, import_class
from elastic_dit.config.experiment import BaseExperiment, Experiment
from elastic_dit.config.typed import plain
from elastic_dit.draws import generator
from elastic_dit.encoders.inputs import Encoders
from elastic_dit.errors import ConfigError, RunError
from elastic_dit.training.lineage import START, differences
from elastic_dit.training.run_folder import RunFolder, find, load_experiment


def build_encoders(experiment: Experiment) -> Encoders:
    """The frozen autoencoder and text encoders, checked against the backbone's description.

    Raises ``ConfigError`` where latent channels or text widths do not meet.
    """
    autoencoder = build(experiment.autoencoder)
    text = [build(component) for component in experiment.text_encoders]
    spec = experiment.backbone
    if autoencoder.channels != spec.latent_channels:
        raise ConfigError(
            f"backbone.latent_channels is {spec.latent_channels}, but the autoencoder has {autoencoder.channels}"
        )
    widths = tuple(encoder.width for encoder in text)
    if widths != spec.text_inputs:
        raise ConfigError(f"backbone.text_inputs is {list(spec.text_inputs)}, but text_encoders have {list(widths)}")
    return Encoders(autoencoder, text)


def build_stage(experiment: Experiment, encoders: Encoders) -> LightningModule:
    """The LightningModule of the run with a freshly initialised backbone, the same for the same seed."""
    torch.manual_seed(generator("weights", experiment.seed).initial_seed())
    supernet = ElasticDiT(experiment.backbone)
    backbone: Network = supernet
    if START in experiment.parents:
        backbone = load_start(supernet, experiment, find(Path(experiment.runs), experiment.parents[START]))
    for network in backbone.networks.values() if isinstance(backbone, ByWidth) else [backbone]:
        assert isinstance(network, ElasticDiT)
        network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
        if experiment.training.compile:
            compile_blocks(network)
    stage = build(
        experiment.stage,
        backbone=backbone,
        encoders=encoders,
        optimizer=experiment.optimizer,
        training=experiment.training,
        seed=experiment.seed,
    )
    if (teacher := getattr(stage, "teacher", None)) is not None:
        require_same_latents(experiment, teacher)
    return stage


def require_same_latents(experiment: Experiment, teacher: Any) -> None:
    """A teacher speaks of its own latents. ``ConfigError`` where the student's are others."""
    if teacher.channels != experiment.backbone.latent_channels:
        raise ConfigError(
            f"backbone.latent_channels is {experiment.backbone.latent_channels}, but the teacher's latents have "
            f"{teacher.channels}"
        )
    if objection := teacher.objection(experiment.autoencoder):
        raise ConfigError(f"autoencoder: not the teacher's: {objection}")


def load_start(backbone: ElasticDiT, experiment: Experiment, folder: RunFolder) -> Network:
    """The new backbone filled with another run's averaged weights. ``ConfigError`` where the two are not alike.

    A stage with ``takes_standalone`` gets its widths, all or some of the other run's, as networks of their own.
    """
    network = load_network(folder)
    apart = getattr(import_class(experiment.stage.class_path), "takes_standalone", False)
    if not apart and not isinstance(network, ElasticDiT):
        raise ConfigError(f"parents.{START}: {folder.name} is a few-step model; begin with the run that it began with")
    theirs, ours = plain(network.spec), plain(backbone.spec)
    if apart and set(backbone.spec.widths) <= set(network.spec.widths):
        theirs["widths"] = ours["widths"]
    if changed := differences(theirs, ours):
        key, (theirs, ours) = next(iter(changed.items()))
        raise ConfigError(f"backbone.{key} is {ours}, but parents.{START} ({folder.name}) has {theirs}")
    began = load_experiment(folder)
    for name in ("autoencoder", "text_encoders"):
        if getattr(began, name) != getattr(experiment, name):
            raise ConfigError(f"{name}: not those of parents.{START} ({folder.name}): its weights know no other")
    if apart:
        return ByWidth(backbone.spec, {width: standalone(network, width) for width in backbone.spec.widths})
    backbone.load_state_dict(network.state_dict())
    return backbone


def compile_blocks(network: ElasticDiT) -> None:
    """``torch.compile`` every block in place; blocks of a level share what was compiled for a width and a bucket."""
    # One graph a width and picture size; the default limit would fall back to eager without a word.
    torch._dynamo.config.recompile_limit = 256
    for stage in network.stages:
        assert isinstance(stage, Stage)
        for block in stage.blocks:
            block.compile()


def build_data(experiment: BaseExperiment) -> LightningDataModule:
    return build(experiment.data)


def load_network(folder: RunFolder, device: torch.device | str = "cpu") -> Network:
    """A run's averaged backbone from ``weights.safetensors``, ready for inference; LoRA is merged into it.

    Raises ``RunError`` where the run has no weights yet or they do not fit its configuration.
    """
    if not folder.weights.is_file():
        raise RunError(f"{folder.path} has no weights yet: go on training it with --resume {folder.name}")
    experiment = load_experiment(folder)
    with torch.device("meta"):
        supernet = ElasticDiT(experiment.backbone)
    try:
        weights = load_file(folder.weights, device=str(device))
        network = network_from(supernet, weights)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not hold this run's network: {first}") from error
    return network.requires_grad_(False).eval()


def network_from(supernet: ElasticDiT, weights: dict[str, Tensor]) -> Network:
    """A run's network from what its stage wrote: a supernet, one with LoRA beside it, or networks of single widths.

    ``supernet``: on the meta device.
    """
    if any(name.startswith(NETWORKS) for name in weights):
        networks = split(supernet, share=False)
        networks.load_state_dict(weights, assign=True)
        return networks
    base = {name: value for name, value in weights.items() if not name.startswith(LORA)}
    supernet.load_state_dict(base, assign=True)
    return supernet if len(base) == len(weights) else merge(supernet, weights)
