"""From a run's files to its tiny decoder."""

import torch
from safetensors.torch import load_file

from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.config.experiment import BaseExperiment, DecoderExperiment, Experiment
from pocketdit.decoders.paired import WithTinyDecoder
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError, RunError


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
