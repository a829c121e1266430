"""Runs that train a decoder: from configuration to stage, and from a run's files to its decoder."""

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from pocketdit.artifacts.decoder import load_decoder, require_decoder_of
from pocketdit.artifacts.run_folder import find
from pocketdit.config.component import build
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError
from pocketdit.running.lineage import START
from pocketdit.seeding import generator


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
