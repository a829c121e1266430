"""Loads the autoencoder that a run has trained."""

from pocketdit.artifacts.network import require_weights
from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.artifacts.weights import load_weights
from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.config.experiment import AutoencoderExperiment
from pocketdit.errors import RunError


def load_autoencoder(folder: RunFolder) -> ConvAutoencoder:
    """Load a run's autoencoder for inference, with its EMA weights.

    Raises:
        RunError: The run's weights are missing, damaged, or not finite, or do not match its configuration.
        ConfigError: The run did not train an autoencoder.
    """
    autoencoder = ConvAutoencoder(load_experiment(folder, AutoencoderExperiment).architecture)
    require_weights(folder)
    weights = load_weights(folder.weights)
    try:
        autoencoder.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not match the autoencoder in {folder.config.name}: {reason}") from error
    return autoencoder.requires_grad_(False).eval()
