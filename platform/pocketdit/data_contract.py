"""The interface between a run and its data module.

A run accepts any ``LightningDataModule`` whose batches are mappings with these keys:

- ``"images"`` (uint8, (B, 3, H, W)) or ``"latents"`` (float, (B, C, h, w))
- ``"captions"`` (B strings)
- ``"text"`` (one ``TextTokens`` per text encoder), optional: the captions' stored embeddings, without text dropout
- ``"teacher_text"`` and ``"teacher_blank"`` (one ``TextTokens`` per text encoder of the teacher), optional: the stored
  embeddings of the captions, and of the empty caption with B = 1
- ``"ids"`` (int64, (B,)), optional: unique sample numbers, which seed the samples' validation noise

If a data module also implements ``DescribedData``, the run records the fingerprint of the data and checks that stored
latents and text embeddings come from the configured encoders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class DataDescription:
    """Properties of a data set that a run checks and records.

    Attributes:
        fingerprint: Identifier of the data for tracking, or None if the data module does not compute one.
        stored_autoencoder: The autoencoder that produced the stored latents, as recorded in ``dataset.json``, or None
            if the data set contains images.
        stored_text_encoders: The text encoders that produced the stored text embeddings, as recorded in
            ``dataset.json``.
        stored_teacher_text_encoders: The teacher's text encoders that produced the embeddings stored for distillation,
            as recorded in ``dataset.json``.
        has_images: Whether batches contain images. False for a data set of latents.
        attribution: One line that names the license and the authors of the images, if the license requires this.
    """

    fingerprint: str | None = None
    stored_autoencoder: Mapping[str, Any] | None = None
    stored_text_encoders: Sequence[Mapping[str, Any]] = ()
    stored_teacher_text_encoders: Sequence[Mapping[str, Any]] = ()
    has_images: bool = True
    attribution: str | None = None


@runtime_checkable
class CaptionedData(Protocol):
    """A data module that can read captions without their images.

    For such data, a run reports which parts of the captions its text encoders do not see.
    """

    def read_captions(self, split: str, samples: int) -> tuple[list[str], bool]:
        """Read the captions that training may use.

        Args:
            split: "train" or "validation".
            samples: Maximum number of samples to read.

        Returns:
            The captions, and whether all samples of the split were read.
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
