"""From a configuration to objects, encoders, network, stage and data, and from a run's files to its network."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.by_width import ByWidth, Network, standalone
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import build, import_class
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.config.typed import plain
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError
from pocketdit.running.lineage import START, differences
from pocketdit.seeding import generator
from pocketdit.training.compilation import compile_blocks


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
    if objection := teacher.check_latents(experiment.autoencoder):
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


def build_data(experiment: BaseExperiment) -> LightningDataModule:
    return build(experiment.data)
