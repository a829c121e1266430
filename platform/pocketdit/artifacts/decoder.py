"""Loads a run's tiny decoder."""

import torch

from pocketdit.artifacts.network import require_weights
from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.artifacts.weights import load_weights
from pocketdit.config.experiment import DecoderExperiment, EncodedExperiment, Experiment
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.decoders.tiny_autoencoder import TinyDecoderAutoencoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError, RunError


def require_matching_latents(experiment: EncodedExperiment, decoder: RunFolder) -> None:
    """Raise ``ConfigError`` if the decoder was not trained on the latents of the experiment's autoencoder."""
    own = load_experiment(decoder, DecoderExperiment).autoencoder
    if own != experiment.autoencoder:
        raise ConfigError(
            f"decoder {decoder.name} was trained on the latents of {own.class_path} {own.init_args}, but the "
            f"experiment uses {experiment.autoencoder.class_path} {experiment.autoencoder.init_args}; use the same "
            "autoencoder"
        )


def load_decoder(folder: RunFolder, device: torch.device | str = "cpu") -> TinyDecoder:
    """Load a run's decoder for inference, with its EMA weights.

    Raises:
        RunError: The run's weights are missing, damaged, or not finite, or do not match its configuration.
        ConfigError: The run did not train a decoder.
    """
    decoder = TinyDecoder(load_experiment(folder, DecoderExperiment).decoder)
    require_weights(folder)
    weights = load_weights(folder.weights)
    try:
        decoder.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not match the decoder in {folder.config.name}: {reason}") from error
    return decoder.to(device).requires_grad_(False).eval()


def with_decoder(encoders: Encoders, experiment: Experiment, folder: RunFolder) -> Encoders:
    """Return a copy of the encoders that decodes with the tiny decoder trained by a run.

    Args:
        encoders: The encoders.
        experiment: The experiment that configures the encoders.
        folder: The run that trained the decoder.

    Raises:
        ConfigError: The decoder was trained on the latents of another autoencoder, or the run did not train a decoder.
        RunError: See ``load_decoder``.
    """
    require_matching_latents(experiment, folder)
    return Encoders(TinyDecoderAutoencoder(encoders.autoencoder, load_decoder(folder)), encoders.text)
