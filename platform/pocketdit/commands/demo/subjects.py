"""The runs that a playground samples from. Their networks are loaded when first needed, and then stay loaded."""

from dataclasses import dataclass
from pathlib import Path

from pocketdit.artifacts.decoder import require_matching_latents
from pocketdit.artifacts.network import require_weights
from pocketdit.artifacts.notice import read_notice
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.commands.demo.settings import Demo
from pocketdit.config.declared import latent_sides
from pocketdit.config.experiment import Experiment
from pocketdit.errors import ConfigError
from pocketdit.running.model import Model, load_model

AUTOENCODER = "autoencoder"


@dataclass(frozen=True)
class Subject:
    """A run that a playground samples from.

    Attributes:
        folder: The folder of the run.
        experiment: The configuration of the run.
        notice: The run's notice, which is stored in the sampled images.
        decoder: A run whose tiny decoder can decode the images, or None.
    """

    folder: RunFolder
    experiment: Experiment
    notice: str
    decoder: RunFolder | None

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.folder.name

    @property
    def widths(self) -> list[float]:
        """The widths in ascending order."""
        return sorted(self.experiment.backbone.widths)

    @property
    def decoders(self) -> list[str]:
        """The names of the available decoders: the autoencoder's decoder and, if there is one, the tiny decoder."""
        return [AUTOENCODER] if self.decoder is None else [AUTOENCODER, self.decoder.name]

    def noise_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape of the initial noise for an image size. Runs with equal shapes start from the same noise."""
        return self.experiment.backbone.latent_channels, *latent_sides(self.experiment.autoencoder, size)


def find_subjects(settings: Demo) -> list[Subject]:
    """Find the run to sample from and, if the settings name one, the second run.

    Raises:
        UserError: A run does not exist, has no weights yet, or trained something other than a backbone, or the decoder
            does not fit the first run.
    """
    decoder = find(settings.runs, settings.decoder) if settings.decoder else None
    if decoder is not None:
        require_weights(decoder)
    subjects = [_subject(settings.runs, run, decoder) for run in (settings.run, settings.against) if run]
    if decoder is not None:
        require_matching_latents(subjects[0].experiment, decoder)
    if len({subject.name for subject in subjects}) < len(subjects):
        raise ConfigError(f"against={settings.against}: is the same run as run={settings.run}; choose another run")
    return subjects


def _subject(runs: Path, run: str, decoder: RunFolder | None) -> Subject:
    folder = find(runs, run)
    require_weights(folder)
    experiment = load_experiment(folder)
    if decoder is not None:
        try:
            require_matching_latents(experiment, decoder)
        except ConfigError:
            decoder = None
    return Subject(folder, experiment, read_notice(folder), decoder)


class Models:
    """Loads networks and decoders when they are first needed, and keeps them."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], Model] = {}

    def is_loaded(self, subject: Subject) -> bool:
        """Return whether the network of a run has been loaded."""
        return (subject.name, AUTOENCODER) in self._loaded

    def load(self, subject: Subject, decoder: str) -> Model:
        """Return the model of a run with the decoder that has this name."""
        key = subject.name, decoder
        if key not in self._loaded:
            if decoder == AUTOENCODER:
                self._loaded[key] = load_model(subject.folder, subject.experiment)
            else:
                assert subject.decoder is not None
                self._loaded[key] = self.load(subject, AUTOENCODER).with_decoder(subject.decoder)
        return self._loaded[key]
