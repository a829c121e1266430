"""The files that store the converted images of a unit until they are written to shards.

NUMBER.images contains the bytes of the images one after the other. NUMBER.jsonl contains one line for each image or
skipped entry. The second file is written last, so a unit is either finished or absent.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from datamodules.filters.duplicates import ImageHashes
from datamodules.imports.entries import position_of
from datamodules.shards.schema import Sample
from datamodules.shards.skips import SkippedImage
from pocketdit.files import write_atomically


@dataclass(frozen=True)
class Record:
    """A converted image of a unit.

    Attributes:
        id: ID of the sample.
        captions: Captions of the image.
        width: Width in pixels.
        height: Height in pixels.
        extension: File extension for the format of the encoded image.
        offset: Position of the encoded image in the unit's file.
        length: Size of the encoded image in bytes.
        split: The image's split in the source, or None if the source has no splits.
        frames: Number of frames or pages of the original file.
        hashes: Hashes that are compared to find duplicates, or None if duplicates are kept.
    """

    id: str
    captions: tuple[str, ...]
    width: int
    height: int
    extension: str
    offset: int
    length: int
    split: str | None = None
    frames: int = 1
    hashes: ImageHashes | None = None

    @property
    def position(self) -> float:
        """Hash of the ID as a number in [0, 1)."""
        return position_of(self.id)


class UnitFiles:
    """The files of one unit.

    Args:
        folder: Folder of all units.
        number: Number of the unit.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._images, self._records = folder / f"{number:08d}.images", folder / f"{number:08d}.jsonl"

    @property
    def is_finished(self) -> bool:
        """Whether the unit is finished, even if its images have been moved to shards."""
        return self._records.exists()

    def write(self, process: Callable[[BinaryIO], Iterator[Record | SkippedImage]]) -> None:
        """Write the files of the unit.

        Args:
            process: Function that writes images to a file, and yields their records and the skipped entries.
        """
        lines: list[str] = []

        def write_images(path: Path) -> None:
            with path.open("wb") as file:
                lines.extend(json.dumps(asdict(entry), ensure_ascii=True) for entry in process(file))

        write_atomically(self._images, write_images)
        write_atomically(self._records, "".join(f"{line}\n" for line in lines))

    def records(self) -> Iterator[Record | SkippedImage]:
        """Yield the records and the skipped entries of a finished unit in order."""
        with self._records.open(encoding="utf-8") as file:
            for line in file:
                yield _parse(json.loads(line))

    def read(self, record: Record) -> Sample:
        """Return the sample of a record."""
        with self._images.open("rb") as file:
            file.seek(record.offset)
            payload = file.read(record.length)
        return Sample(record.id, record.captions, record.width, record.height, payload, record.extension)

    def remove_images(self) -> None:
        """Remove the file with the images. The records are kept."""
        self._images.unlink(missing_ok=True)


def _parse(values: dict[str, object]) -> Record | SkippedImage:
    if "reason" in values:
        return SkippedImage(**values)  # type: ignore[arg-type]
    hashes = values.pop("hashes")
    captions = values.pop("captions")
    return Record(
        captions=tuple(captions),  # type: ignore[arg-type]
        hashes=ImageHashes(*hashes) if hashes else None,  # type: ignore[misc]
        **values,  # type: ignore[arg-type]
    )
