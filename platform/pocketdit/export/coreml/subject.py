"""The network to export to Core ML, with its decoder."""

from dataclasses import replace

from pocketdit.artifacts.decoder import load_decoder, require_matching_latents
from pocketdit.artifacts.run_folder import find
from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.export.common.subject import ImageDecoder, Subject, load_subject
from pocketdit.export.coreml.settings import CoreMLExport


def load_coreml_subject(settings: CoreMLExport) -> Subject:
    """Load the network and its decoder. Raises the errors of ``load_subject``."""
    subject = load_subject(settings)
    return replace(subject, decoder=_load_image_decoder(settings, subject.experiment))


def _load_image_decoder(settings: CoreMLExport, experiment: Experiment) -> ImageDecoder | None:
    if settings.decoder is not None:
        folder = find(settings.runs, settings.decoder)
        require_matching_latents(experiment, folder)
        return ImageDecoder(load_decoder(folder), folder.name)
    if settings.run is None:  # the autoencoder's weights may not be on this machine
        return None
    return ImageDecoder(build(experiment.autoencoder))
