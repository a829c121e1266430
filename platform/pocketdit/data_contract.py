"""What a run needs to know about its data.

Any ``LightningDataModule`` can train. Its batches are mappings with ``"images"`` (uint8, (B, 3, H, W)) or
``"latents"`` (float, (B, C, h, w)), ``"captions"`` (B strings) and, optionally, ``"ids"`` (int64, (B,), numbers that
identify the samples; validation noise is derived from them). If a data module implements ``DescribedData``, its
fingerprint is also recorded, and its stored latents are checked against the run's autoencoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class DataDescription:
    """Facts about a data set that a run checks and records.

    Attributes:
        fingerprint: Identifies the data, for tracking; None if the data module does not compute one.
        stored_autoencoder: The autoencoder of stored latents, as ``dataset.json`` records it; None for images.
        has_images: Whether batches contain images. In a data set of latents, they do not.
    """

    fingerprint: str | None = None
    stored_autoencoder: Mapping[str, Any] | None = None
    has_images: bool = True


@runtime_checkable
class DescribedData(Protocol):
    """A data module that describes its data, divides samples over the ranks itself, and resumes at the exact sample.

    Lightning divides the samples of other data modules over the ranks, and their position is not restored.

    Attributes:
        allow_changes: Whether a resumed run may continue although the data or the batch size have changed.
    """

    allow_changes: bool

    def setup(self, stage: str | None = None) -> None:
        """Open the data. Called before ``prepare_data``, because the run is checked against the description first."""
        ...

    def describe(self) -> DataDescription:
        """Describe the data set. Called after ``setup``."""
        ...
