"""The images and captions that layouts read, and the units into which they are divided."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from datamodules.captions.fields import Field
from datamodules.captions.members import MemberRules
from datamodules.shards.skips import SkippedImage


class FilePart(NamedTuple):
    """A range of bytes in a file, such as a member of a tar."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Entry:
    """An image with captions, before it is decoded.

    Attributes:
        id: ID of the sample, unique in the source.
        content: The bytes of the image file, or the file or file part that contains them.
        captions: One or more captions.
        columns: Other values, to which filters may refer.
        split: "train" or "validation" if the source divides its images, otherwise None.
    """

    id: str
    content: bytes | Path | FilePart = field(repr=False)
    captions: tuple[str, ...]
    columns: Mapping[str, object] = field(default_factory=dict, repr=False)
    split: str | None = None


class Unit(Protocol):
    """A part of a source that one process reads as a whole. Units can be pickled."""

    @property
    def size(self) -> int:
        """Number of images, or number of bytes if the plan of the layout counts bytes."""
        ...

    def read(self) -> Iterator[Entry | SkippedImage]:
        """Yield the unit's images, including those that cannot be used. The order depends only on the source."""
        ...


@dataclass(frozen=True)
class EntryRun:
    """A unit of images that were listed in advance."""

    entries: tuple[Entry | SkippedImage, ...]

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.entries)

    def read(self) -> Iterator[Entry | SkippedImage]:
        """Yield the images."""
        yield from self.entries


@dataclass(frozen=True)
class Plan:
    """How a source is read.

    Attributes:
        description: Description of the layout and its files.
        units: Function that yields the units. Every call yields the same units in the same order.
        files: Files that the build depends on. If one of them changes, an interrupted build starts over.
        images: Number of images, usable or not, if known in advance.
        total: Sum of the sizes of all units, if known in advance.
        counts_bytes: Whether unit sizes are counted in bytes instead of images.
        splits: Description of how the source divides its images between training and validation, or None if it does
            not.
        notes: Function that returns additional lines for the report. It is called after all units have been read.
    """

    description: str
    units: Callable[[], Iterable[Unit]]
    files: Sequence[Path]
    images: int | None = None
    total: int | None = None
    counts_bytes: bool = False
    splits: str | None = None
    notes: Callable[[], list[str]] = list


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source. Most options apply only to some layouts.

    Attributes:
        captions: Caption table to use instead of all other captions.
        captions_per_line: Treat each line of a text file as a caption, instead of the whole file.
        default_caption: Caption for images without a caption. If None, these images are skipped.
        image_field: Member or column that contains the image, or the path of the image.
        caption_fields: Members or columns that contain the captions. The one with the short captions comes first.
        columns: Columns to which filters refer.
        class_names: File that lists the names of classes.
        template: Caption for images in class folders, in which "{}" is replaced with the name of the class.
    """

    captions: Path | None = None
    captions_per_line: bool = False
    default_caption: str | None = None
    image_field: Field | None = None
    caption_fields: tuple[Field, ...] = ()
    columns: tuple[str, ...] = ()
    class_names: Path | None = None
    template: str | None = None

    @property
    def member_rules(self) -> MemberRules:
        """Rules that determine which members of a sample in a tar contain the image and the captions."""
        image = None if self.image_field is None else self.image_field.name
        return MemberRules(image, self.caption_fields, self.captions_per_line)


def runs_of(entries: Iterable[Entry | SkippedImage], length: int = 256) -> Iterator[EntryRun]:
    """Divide images that were listed in advance into units."""
    iterator = iter(entries)
    while run := tuple(islice(iterator, length)):
        yield EntryRun(run)


def position_of(name: str) -> float:
    """Return a hash of a name as a number in [0, 1), which determines the split."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
