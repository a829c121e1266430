"""Loads a run's initial weights from the run in ``parents.start``."""

from pathlib import Path

from pocketdit.artifacts.autoencoder import load_autoencoder
from pocketdit.artifacts.decoder import load_decoder, require_matching_latents
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.backbones.build import Backbone
from pocketdit.backbones.per_width import Network, PerWidthNetworks, standalone_network
from pocketdit.backbones.unet import UNet
from pocketdit.config.experiment import START, AutoencoderExperiment, BaseExperiment, DecoderExperiment, Experiment
from pocketdit.config.typed import plain
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.errors import ConfigError
from pocketdit.running.lineage import differences


def start_backbone(supernet: Backbone, experiment: Experiment, separate_widths: bool) -> Network:
    """Load the EMA weights of ``parents.start`` into a supernet, which may have a subset of the parent's widths.

    Args:
        supernet: The network of the new run.
        experiment: The configuration of the new run.
        separate_widths: Whether to return one standalone network per width.

    Raises:
        ConfigError: The networks or the encoders of the two runs differ.
    """
    folder = start_folder(experiment)
    network = load_network(folder)
    if not separate_widths and isinstance(network, PerWidthNetworks):
        raise ConfigError(f"parents.{START}: {folder.name} is a few-step model; use the run that it started from")
    theirs, ours = plain(network.spec), plain(supernet.spec)
    if "widths" in theirs and set(supernet.spec.widths) <= set(network.spec.widths):
        theirs["widths"] = ours["widths"]
    if changed := differences(theirs, ours):
        key, (theirs, ours) = next(iter(changed.items()))
        raise ConfigError(f"backbone.{key}: must be {theirs} as in parents.{START} ({folder.name}), not {ours}")
    parent = load_experiment(folder)
    for name in ("autoencoder", "text_encoders"):
        if getattr(parent, name) != getattr(experiment, name):
            raise ConfigError(f"{name} must have the same settings as in parents.{START} ({folder.name})")
    if separate_widths and not isinstance(network, UNet):
        spec = experiment.dit
        return PerWidthNetworks(spec, {width: standalone_network(network, width) for width in spec.widths})
    weights = network.state_dict()
    supernet.load_state_dict({name: weights[name] for name in supernet.state_dict()})
    return supernet


def start_decoder(decoder: TinyDecoder, experiment: DecoderExperiment) -> TinyDecoder:
    """Load the EMA weights of ``parents.start`` into a decoder.

    Raises:
        ConfigError: The decoders or the autoencoders of the two runs differ.
    """
    folder = start_folder(experiment)
    require_matching_latents(experiment, folder)
    parent = load_decoder(folder)
    if parent.spec != decoder.spec:
        raise ConfigError(f"decoder must have the same settings as in parents.{START} ({folder.name})")
    decoder.load_state_dict(parent.state_dict())
    return decoder


def start_autoencoder(autoencoder: ConvAutoencoder, experiment: AutoencoderExperiment) -> ConvAutoencoder:
    """Load the EMA weights of ``parents.start`` into an autoencoder.

    Raises:
        ConfigError: The architectures of the two runs differ.
    """
    folder = start_folder(experiment)
    parent = load_autoencoder(folder)
    if parent.spec != autoencoder.spec:
        raise ConfigError(f"architecture must have the same settings as in parents.{START} ({folder.name})")
    autoencoder.load_state_dict(parent.state_dict())
    return autoencoder


def start_folder(experiment: BaseExperiment) -> RunFolder:
    """Return the folder of the run in ``parents.start``."""
    return find(Path(experiment.runs), experiment.parents[START])
