"""From a configuration to objects: encoders, backbone, stage, data, trainer."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file

from elastic_dit.backbones.dit import ElasticDiT, Stage
from elastic_dit.config.component import build
from elastic_dit.config.experiment import Experiment
from elastic_dit.config.load import load
from elastic_dit.draws import generator
from elastic_dit.encoders.inputs import Encoders
from elastic_dit.errors import ConfigError, RunError
from elastic_dit.training.run_folder import RunFolder


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
    backbone = ElasticDiT(experiment.backbone)
    backbone.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
    if experiment.training.compile:
        compile_blocks(backbone)
    return build(
        experiment.stage,
        backbone=backbone,
        encoders=encoders,
        optimizer=experiment.optimizer,
        training=experiment.training,
        seed=experiment.seed,
    )


def compile_blocks(network: ElasticDiT) -> None:
    """``torch.compile`` every block in place; blocks of a level share what was compiled for a width and a bucket."""
    # One graph a width and picture size; the default limit would fall back to eager without a word.
    torch._dynamo.config.recompile_limit = 256
    for stage in network.stages:
        assert isinstance(stage, Stage)
        for block in stage.blocks:
            block.compile()


def build_data(experiment: Experiment) -> LightningDataModule:
    return build(experiment.data)


def load_experiment(folder: RunFolder, schema: type[Any] = Experiment) -> Any:
    """The configuration that a run was made with."""
    return load(folder.config, [], schema).config


def load_network(folder: RunFolder, device: torch.device | str = "cpu") -> ElasticDiT:
    """A run's averaged backbone from ``weights.safetensors``, ready for inference.

    Raises ``RunError`` where the run has no weights yet or they do not fit its configuration.
    """
    if not folder.weights.is_file():
        raise RunError(f"{folder.path} has no weights yet: go on training it with --resume {folder.name}")
    experiment = load_experiment(folder)
    with torch.device("meta"):
        network = ElasticDiT(experiment.backbone)
    try:
        network.load_state_dict(load_file(folder.weights, device=str(device)), assign=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not hold this run's network: {first}") from error
    return network.requires_grad_(False).eval()
