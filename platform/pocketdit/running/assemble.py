"""Builds the encoders, network, stage, and data module that a configuration describes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.backbones.build import build_network
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import Network, PerWidthNetworks
from pocketdit.backbones.unet import UNet
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import AnyExperiment, AutoencoderExperiment, DecoderExperiment, Experiment
from pocketdit.config.importing import import_class
from pocketdit.data_contract import DataDescription
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder, TextEncoder
from pocketdit.encoders.identity import is_same_unloaded, require_same
from pocketdit.encoders.inputs import Deferred, Encoders
from pocketdit.errors import ConfigError
from pocketdit.running.start import start_autoencoder, start_backbone, start_decoder
from pocketdit.seeding import generator
from pocketdit.stages.contract import StageInputs
from pocketdit.stages.teaching import needed_teacher
from pocketdit.teachers.contract import StorableText
from pocketdit.training.compilation import compile_blocks, require_compilable


def build_encoders(experiment: AnyExperiment, data: DataDescription | None = None) -> Encoders:
    """Build the frozen autoencoder and text encoders, and check that they match the network's specification.

    Args:
        experiment: The configuration.
        data: Description of the data set. If it stores the outputs of an encoder, the encoder is only loaded when it is
            first needed.

    Raises:
        ConfigError: The latent channels, the downscaling factor, or the text widths do not match, or the data set was
            encoded with other encoders.
    """
    data = data or DataDescription()
    if isinstance(experiment, AutoencoderExperiment):
        return Encoders(None, ())
    autoencoder, facts = build_autoencoder(experiment.autoencoder, data.stored_autoencoder)
    match experiment:
        case Experiment():
            text, widths = build_text_encoders(experiment.text_encoders, data.stored_text_encoders)
            spec = experiment.backbone
            require_equal("backbone.latent_channels", spec.latent_channels, "the autoencoder", facts["channels"])
            require_equal("backbone.text_inputs", list(spec.text_inputs), "text_encoders", widths)
            return Encoders(autoencoder, text)
        case DecoderExperiment():
            decoder = experiment.decoder
            require_equal("decoder.latent_channels", decoder.latent_channels, "the autoencoder", facts["channels"])
            require_equal("decoder.factor", decoder.factor, "the autoencoder", facts["factor"])
            return Encoders(autoencoder, ())
        case _:
            assert_never(experiment)


def build_autoencoder(
    component: Component, stored: Mapping[str, Any] | None
) -> tuple[Autoencoder | Deferred[Autoencoder], Mapping[str, int]]:
    """Build an autoencoder. If the data set stores its latents, it is only built when it is first needed.

    Returns:
        The autoencoder, and a mapping that contains its "channels" and "factor".

    Raises:
        ConfigError: The data set was encoded with another autoencoder.
    """

    def load() -> Autoencoder:
        autoencoder: Autoencoder = build(component)
        if stored:
            require_same(stored, autoencoder)
        return autoencoder

    if (
        stored
        and is_same_unloaded(stored, import_class(component.class_path), component.init_args)
        and "channels" in stored
    ):
        return Deferred(load), stored
    autoencoder = load()
    return autoencoder, {"channels": autoencoder.channels, "factor": autoencoder.factor}


def build_text_encoders(
    components: Sequence[Component], stored: Sequence[Mapping[str, Any]], key: str = "text_encoders"
) -> tuple[Sequence[TextEncoder] | Deferred[Sequence[TextEncoder]], list[int]]:
    """Build text encoders. If the data set stores their embeddings, they are only built when they are first needed.

    Returns:
        The text encoders, and the width of each one.

    Raises:
        ConfigError: The data set was encoded with other text encoders.
    """
    if stored and len(stored) != len(components):
        names = ", ".join(str(identity["class"]).rpartition(".")[2] for identity in stored)
        raise ConfigError(
            f"{key}: the run has {len(components)}, but the data set stores the embeddings of {len(stored)} "
            f"({names}); use the same text encoders, or encode the data set again"
        )
    keys = [f"{key}.{i}" for i in range(len(components))]

    def load() -> Sequence[TextEncoder]:
        encoders: list[TextEncoder] = [build(component) for component in components]
        for identity, encoder, key in zip(stored, encoders, keys, strict=False):
            require_same(identity, encoder, key)
        return encoders

    same = [
        is_same_unloaded(identity, import_class(component.class_path), component.init_args, key)
        for identity, component, key in zip(stored, components, keys, strict=False)
    ]
    if stored and all(same):
        return Deferred(load), [int(identity["width"]) for identity in stored]
    encoders = load()
    return encoders, [encoder.width for encoder in encoders]


def require_equal(key: str, value: object, other: str, expected: object) -> None:
    """Raise ``ConfigError`` if a configured value does not match the encoder's value."""
    if value != expected:
        raise ConfigError(f"{key} is {value}, but must be {expected} to match {other}")


def build_stage(experiment: AnyExperiment, encoders: Encoders, data: DataDescription | None = None) -> LightningModule:
    """Build the stage with a freshly initialized network, or with the weights of ``parents.start``.

    The same seed produces the same weights.
    """
    torch.manual_seed(generator("weights", experiment.seed).initial_seed())
    network: nn.Module
    match experiment:
        case Experiment():
            network = build_backbone(experiment)
        case DecoderExperiment():
            network = build_decoder(experiment)
        case AutoencoderExperiment():
            network = build_trained_autoencoder(experiment)
        case _:
            assert_never(experiment)
    stage: LightningModule = build(
        needed_stage(experiment, data or DataDescription()),
        inputs=StageInputs(
            network=network,
            encoders=encoders,
            autoencoder=None if isinstance(experiment, AutoencoderExperiment) else experiment.autoencoder,
            optimizer=experiment.optimizer,
            training=experiment.training,
            seed=experiment.seed,
            sampling=experiment.sampling if isinstance(experiment, Experiment) else None,
        ),
    )
    if experiment.training.compile and isinstance(network, TinyDecoder | ConvAutoencoder):
        network.compile()  # after the stage has made its EMA copy, which must not be compiled
    return stage


def needed_stage(experiment: AnyExperiment, data: DataDescription) -> Component:
    """Return the stage's configuration, with a teacher that loads only what the run needs.

    The teacher has no few-step version if the stage does not use it, and no text encoders if the data set stores their
    embeddings.

    Raises:
        ConfigError: The stored embeddings come from another teacher's text encoders.
    """
    stage = experiment.stage
    if not isinstance(experiment, Experiment) or not isinstance(stage.init_args.get("teacher"), Component):
        return stage
    teacher = needed_teacher(experiment)
    cls = import_class(teacher.class_path)
    if data.stored_teacher_text_encoders and issubclass(cls, StorableText):
        components = cls.text_components(**teacher.init_args)
        build_text_encoders(components, data.stored_teacher_text_encoders, "stage.init_args.teacher.text_encoders")
        teacher = replace(teacher, init_args={**teacher.init_args, "load_text": False})
    return replace(stage, init_args={**stage.init_args, "teacher": teacher})


def build_backbone(experiment: Experiment) -> Network:
    """Build the supernet or, if the stage sets ``separate_widths``, one network per width.

    Raises:
        ConfigError: ``training.compile`` is set on a CPU.
    """
    require_compilable(experiment.training)
    supernet = build_network(experiment.backbone)
    separate = import_class(experiment.stage.class_path).separate_widths
    backbone = start_backbone(supernet, experiment, separate) if experiment.start else supernet
    networks = backbone.networks.values() if isinstance(backbone, PerWidthNetworks) else [backbone]
    for network in networks:
        assert isinstance(network, ElasticDiT | UNet)
        network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
        if experiment.training.compile:
            compile_blocks(network)
    return backbone


def build_decoder(experiment: DecoderExperiment) -> TinyDecoder:
    """Build the tiny decoder."""
    decoder = TinyDecoder(experiment.decoder)
    return start_decoder(decoder, experiment) if experiment.start else decoder


def build_trained_autoencoder(experiment: AutoencoderExperiment) -> ConvAutoencoder:
    """Build the autoencoder that the run trains."""
    autoencoder = ConvAutoencoder(experiment.architecture)
    return start_autoencoder(autoencoder, experiment) if experiment.start else autoencoder


def build_data(experiment: AnyExperiment) -> LightningDataModule:
    """Build the data module."""
    data: LightningDataModule = build(experiment.data)
    return data
