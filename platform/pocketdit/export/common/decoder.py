"""Load the network to export together with its decoder."""

from dataclasses import replace

from pocketdit.artifacts.decoder import load_decoder, require_matching_latents
from pocketdit.artifacts.notice import join_notices, read_notice
from pocketdit.artifacts.run_folder import find
from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.export.common.float16 import require_float16_range
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.subject import ImageDecoder, Subject, load_subject


def load_with_decoder(settings: BaseExport, keep_lora: bool = False) -> Subject:
    """Load the network and its decoder.

    Args:
        settings: Settings of the export.
        keep_lora: See ``load_subject``.

    Raises:
        ConfigError: The network does not have this width or does not support this image size, or a weight is beyond the
            range of float16.
        RunError: A run does not exist, or one of its files is missing or damaged.
    """
    subject = load_subject(settings, keep_lora)
    decoder = _load_image_decoder(settings, subject.experiment)
    if decoder is not None and settings.precision == "float16":
        require_float16_range(decoder.module.state_dict(), decoder.run or "the autoencoder")
    notice = read_notice(find(settings.runs, settings.decoder)) if settings.decoder is not None else ""
    return replace(subject, decoder=decoder, notice=join_notices(subject.notice, notice))


def _load_image_decoder(settings: BaseExport, experiment: Experiment) -> ImageDecoder | None:
    if settings.decoder is not None:
        folder = find(settings.runs, settings.decoder)
        require_matching_latents(experiment, folder)
        return ImageDecoder(load_decoder(folder), folder.name)
    if settings.run is None:  # the weights of the autoencoder may not be available
        return None
    return ImageDecoder(build(experiment.autoencoder))
