"""The interface between a run and its data module.

A run accepts any ``LightningDataModule`` whose batches are mappings with these keys:

- ``"images"`` (uint8, (B, 3, H, W)) or ``"latents"`` (float, (B, C, h, w))
- ``"captions"`` (B strings)
- ``"ids"`` (int64, (B,)), optional: unique numbers of the samples, which seed their validation noise

If a data module also implements ``DescribedData``, the run records the fingerprint of the data and checks that stored
latents come from the configured autoencoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class DataDescription:
    """Properties of a data set that a run checks and records.

    Attributes:
        fingerprint: Identifier of the data for tracking, or None if the data module does not compute one.
        stored_autoencoder: The autoencoder that produced the stored latents, as recorded in ``dataset.json``. None for
            images.
        has_images: Whether batches contain images. False for a data set of latents.
        attribution: One line that names the license and the authors of the images, if the license asks for it.
    """

    fingerprint: str | None = None
    stored_autoencoder: Mapping[str, Any] | None = None
    has_images: bool = True
    attribution: str | None = None


@runtime_checkable
class CaptionedData(Protocol):
    """A data module that can read captions without their images. A run then counts what its encoders do not see."""

    def read_captions(self, split: str, samples: int) -> tuple[list[str], bool]:
        """Read the captions that training may use.

        Args:
            split: "train" or "validation".
            samples: Maximum number of samples to read.

        Returns:
            The captions, and whether they are those of all samples.
        """
        ...


@runtime_checkable
class DescribedData(Protocol):
    """A data module that describes its data, splits samples across ranks itself, and resumes at the exact sample.

    For other data modules, Lightning splits the samples across ranks, and a resumed run does not restore its position
    in the data.

    Attributes:
        allow_changes: Whether a resumed run may continue after the data or the batch size has changed.
    """

    allow_changes: bool

    def setup(self, stage: str | None = None) -> None:
        """Open the data. This is called before ``prepare_data``, because the run checks the description first."""
        ...

    def describe(self) -> DataDescription:
        """Return a description of the data set. This is called after ``setup``."""
        ...
