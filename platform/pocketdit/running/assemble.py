"""Build the encoders, network, stage, and data module that a configuration describes."""

from typing import assert_never

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import Network, PerWidthNetworks
from pocketdit.config.component import build
from pocketdit.config.experiment import AnyExperiment, DecoderExperiment, Experiment
from pocketdit.config.importing import import_class
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError
from pocketdit.running.start import start_backbone, start_decoder
from pocketdit.seeding import generator
from pocketdit.stages.contract import StageInputs
from pocketdit.training.compilation import compile_blocks, require_compilable


def build_encoders(experiment: AnyExperiment) -> Encoders:
    """Build the frozen autoencoder and text encoders, and check that they match the network's specification.

    Raises:
        ConfigError: The latent channels, the downscaling factor, or the text widths do not match.
    """
    autoencoder = build(experiment.autoencoder)
    match experiment:
        case Experiment():
            text = [build(component) for component in experiment.text_encoders]
            spec, widths = experiment.backbone, [encoder.width for encoder in text]
            require_equal("backbone.latent_channels", spec.latent_channels, "the autoencoder", autoencoder.channels)
            require_equal("backbone.text_inputs", list(spec.text_inputs), "text_encoders", widths)
            return Encoders(autoencoder, text)
        case DecoderExperiment():
            decoder = experiment.decoder
            require_equal("decoder.latent_channels", decoder.latent_channels, "the autoencoder", autoencoder.channels)
            require_equal("decoder.factor", decoder.factor, "the autoencoder", autoencoder.factor)
            return Encoders(autoencoder, ())
        case _:
            assert_never(experiment)


def require_equal(key: str, value: object, other: str, expected: object) -> None:
    """Raise ``ConfigError`` if a configured value does not match that of an encoder."""
    if value != expected:
        raise ConfigError(f"{key}: is {value}, but must be {expected} to match {other}")


def build_stage(experiment: AnyExperiment, encoders: Encoders) -> LightningModule:
    """Build the stage with a freshly initialized network, or with the weights of ``parents.start``.

    The same seed gives the same weights.
    """
    torch.manual_seed(generator("weights", experiment.seed).initial_seed())
    network: nn.Module
    match experiment:
        case Experiment():
            network = build_backbone(experiment)
        case DecoderExperiment():
            network = build_decoder(experiment)
        case _:
            assert_never(experiment)
    stage: LightningModule = build(
        experiment.stage,
        inputs=StageInputs(
            network=network,
            encoders=encoders,
            autoencoder=experiment.autoencoder,
            optimizer=experiment.optimizer,
            training=experiment.training,
            seed=experiment.seed,
            sampling=experiment.sampling if isinstance(experiment, Experiment) else None,
        ),
    )
    if experiment.training.compile and isinstance(network, TinyDecoder):
        network.compile()  # after the stage has made its EMA copy, which must not be compiled
    return stage


def build_backbone(experiment: Experiment) -> Network:
    """Build the supernet or, if the stage sets ``separate_widths``, one network per width.

    Raises:
        ConfigError: ``training.compile`` is set on a CPU.
    """
    require_compilable(experiment.training)
    supernet = ElasticDiT(experiment.backbone)
    separate = import_class(experiment.stage.class_path).separate_widths
    backbone = start_backbone(supernet, experiment, separate) if experiment.start else supernet
    networks = backbone.networks.values() if isinstance(backbone, PerWidthNetworks) else [backbone]
    for network in networks:
        assert isinstance(network, ElasticDiT)
        network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
        if experiment.training.compile:
            compile_blocks(network)
    return backbone


def build_decoder(experiment: DecoderExperiment) -> TinyDecoder:
    """Build the tiny decoder."""
    decoder = TinyDecoder(experiment.decoder)
    return start_decoder(decoder, experiment) if experiment.start else decoder


def build_data(experiment: AnyExperiment) -> LightningDataModule:
    """Build the data module."""
    data: LightningDataModule = build(experiment.data)
    return data
