"""Runs that train a decoder: from configuration to stage, and from a run's files to its decoder."""

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file

from elastic_dit.config.component import build
from elastic_dit.config.experiment import BaseExperiment, DecoderExperiment, Experiment
from elastic_dit.decoders.paired import WithTinyDecoder
from elastic_dit.decoders.tiny import TinyDecoder
from elastic_dit.draws import generator
from elastic_dit.encoders.inputs import Encoders
from elastic_dit.errors import ConfigError, RunError
from elastic_dit.training.lineage import START
from elastic_dit.training.run_folder import RunFolder, find, load_experiment


def build_decoder_stage(experiment: DecoderExperiment) -> LightningModule:
    """The LightningModule of a decoder's run. ``ConfigError`` where decoder and autoencoder do not meet."""
    encoders, spec = Encoders(build(experiment.autoencoder), ()), experiment.decoder
    for key, wanted in (("latent_channels", encoders.autoencoder.channels), ("factor", encoders.autoencoder.factor)):
        if getattr(spec, key) != wanted:
            raise ConfigError(f"decoder.{key} is {getattr(spec, key)}, but the autoencoder has {wanted}")
    torch.manual_seed(generator("weights", experiment.seed).initial_seed())
    decoder = TinyDecoder(spec)
    if START in experiment.parents:
        folder = find(Path(experiment.runs), experiment.parents[START])
        require_decoder_of(experiment, folder)
        started = load_decoder(folder)
        if started.spec != spec:
            raise ConfigError(f"decoder: not that of parents.{START} ({folder.name})")
        decoder.load_state_dict(started.state_dict())
    stage: LightningModule = build(
        experiment.stage,
        decoder=decoder,
        encoders=encoders,
        optimizer=experiment.optimizer,
        training=experiment.training,
        seed=experiment.seed,
    )
    if experiment.training.compile:
        decoder.compile()
    return stage


def require_images(experiment: DecoderExperiment, data: LightningDataModule) -> None:
    """``ConfigError`` where a decoder should learn the images themselves, and the shards hold latents alone."""
    kind = getattr(getattr(data, "info", None), "kind", "image")
    if kind == "latent" and experiment.stage.init_args.get("target") == "image":
        raise ConfigError("stage.init_args.target: the data set holds latents and no images; choose decoded")


def require_decoder_of(experiment: BaseExperiment, decoder: RunFolder) -> None:
    """A decoder knows one autoencoder's latents. ``ConfigError`` where the experiment has others."""
    own = load_experiment(decoder, DecoderExperiment).autoencoder
    if own != experiment.autoencoder:
        raise ConfigError(
            f"decoder {decoder.name}: trained on the latents of {own.class_path} {own.init_args}, "
            f"not of {experiment.autoencoder.class_path} {experiment.autoencoder.init_args}"
        )


def load_decoder(folder: RunFolder, device: torch.device | str = "cpu") -> TinyDecoder:
    """A run's averaged decoder from ``weights.safetensors``, ready for inference.

    Raises ``RunError`` where the run has no weights yet or they do not fit its configuration, ``ConfigError`` where it
    trained no decoder.
    """
    decoder = TinyDecoder(load_experiment(folder, DecoderExperiment).decoder)
    if not folder.weights.is_file():
        raise RunError(f"{folder.path} has no weights yet: go on training it with --resume {folder.name}")
    try:
        decoder.load_state_dict(load_file(folder.weights))
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not hold this run's decoder: {first}") from error
    return decoder.to(device).requires_grad_(False).eval()


def with_decoder(encoders: Encoders, experiment: Experiment, folder: RunFolder) -> Encoders:
    """The same encoders, with the decoder of ``folder`` in place of the autoencoder's own.

    Raises what ``load_decoder`` does, and ``ConfigError`` where the decoder was trained on other latents.
    """
    require_decoder_of(experiment, folder)
    return Encoders(WithTinyDecoder(encoders.autoencoder, load_decoder(folder)), encoders.text)
