"""Checks of a run's data against its configuration."""

from lightning.pytorch import LightningDataModule

from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.importing import import_class
from pocketdit.data_contract import DataDescription, DescribedData
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.identity import require_same


def describe(data: LightningDataModule) -> DataDescription:
    """Return the data module's description, or the defaults if it does not provide one."""
    return data.describe() if isinstance(data, DescribedData) else DataDescription()


def require_available(experiment: BaseExperiment) -> None:
    """Raise an error if the data set is missing, before any large object is built.

    A data module's class may define ``require_available(init_args)``, which raises ``ConfigError`` and names the
    command that creates the data set.
    """
    check = getattr(import_class(experiment.data.class_path), "require_available", None)
    if check is not None:
        check(experiment.data.init_args)


def require_same_autoencoder(autoencoder: Autoencoder, description: DataDescription) -> None:
    """Raise ``ConfigError`` if the data's latents do not come from the run's autoencoder."""
    if description.stored_autoencoder:
        require_same(description.stored_autoencoder, autoencoder)
