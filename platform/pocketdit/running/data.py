"""Checks a run's data against its configuration."""

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule

from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.importing import import_class
from pocketdit.data_contract import CaptionedData, DataDescription, DescribedData
from pocketdit.encoders.contract import TextEncoder
from pocketdit.encoders.coverage import CaptionCoverage, coverage_lines

_MAX_SAMPLES = 1000  # maximum number of captions per split that a run reads when it starts


def describe(data: LightningDataModule) -> DataDescription:
    """Return the data module's description, or the defaults if it does not provide one."""
    return data.describe() if isinstance(data, DescribedData) else DataDescription()


def describe_unopened(experiment: BaseExperiment) -> DataDescription:
    """Return what the data set stores, without reading its samples, or the defaults if this is not known.

    A data module's class may define ``describe_unopened(init_args)`` for this purpose.
    """
    describe = getattr(import_class(experiment.data.class_path), "describe_unopened", None)
    found: DataDescription = DataDescription() if describe is None else describe(experiment.data.init_args)
    return found


def require_available(experiment: BaseExperiment) -> None:
    """Raise an error if the data set is missing, before any large object is built.

    A data module's class may define ``require_available(init_args)``, which raises ``ConfigError`` and names the
    command that creates the data set.
    """
    check = getattr(import_class(experiment.data.class_path), "require_available", None)
    if check is not None:
        check(experiment.data.init_args)


def caption_notes(data: LightningDataModule, text_encoders: Sequence[TextEncoder]) -> list[str]:
    """Return notes on the captions that exceed the text encoders' limits. Only part of a large data set is read."""
    if not isinstance(data, CaptionedData) or not text_encoders:
        return []
    coverages, complete = {}, True
    for split in ("train", "validation"):
        captions, is_all = data.read_captions(split, _MAX_SAMPLES)
        coverages[split] = CaptionCoverage(text_encoders)
        coverages[split].add(captions)
        complete = complete and (is_all or split != "train")
    return coverage_lines(coverages, complete=complete)
