"""What layouts read: images with captions, in units of work."""

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
    """Bytes of a file, such as a member of a tar."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Entry:
    """An image with captions, before it is decoded.

    Attributes:
        id: ID of the sample, unique in the source.
        content: The bytes of the image file, or where they are.
        captions: One or more captions.
        columns: Other values, on which filters may depend.
        split: "train" or "validation" if the source divides its images, otherwise None.
    """

    id: str
    content: bytes | Path | FilePart = field(repr=False)
    captions: tuple[str, ...]
    columns: Mapping[str, object] = field(default_factory=dict, repr=False)
    split: str | None = None


class Unit(Protocol):
    """A part of a source that one process reads as a whole. It can be pickled."""

    @property
    def size(self) -> int:
        """Number of images, or of bytes, whichever the layout's plan counts."""
        ...

    def read(self) -> Iterator[Entry | SkippedImage]:
        """Yield the images, and what cannot be used. The order depends only on the source."""
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
        description: What the layout is and what it consists of.
        units: Yields the units, always the same ones in the same order.
        files: The files whose change makes an interrupted build start over.
        images: Number of images, usable or not, if known in advance.
        total: Sum of the sizes of all units, if known in advance.
        counts_bytes: Whether the sizes of units are bytes instead of images.
        splits: How the source divides its images between training and validation; None if it does not.
        notes: Returns what the report should mention. It is called when all units have been read.
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
    """How to read a source. Most options apply to some layouts only.

    Attributes:
        captions: Caption table to use instead of any other captions.
        captions_per_line: Make each line of a text file a caption, instead of the whole file.
        default_caption: Caption of an image that has none. None skips such images.
        image_field: Member or column that contains the image, or the path of the image.
        caption_fields: Members or columns that contain the captions, the one with the short captions first.
        columns: Columns that filters need.
        class_names: File with the names of classes.
        template: Caption of an image of a class, in which "{}" stands for the name of the class.
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
        """Which members of a sample in a tar contain its image and its captions."""
        image = None if self.image_field is None else self.image_field.name
        return MemberRules(image, self.caption_fields, self.captions_per_line)


def runs_of(entries: Iterable[Entry | SkippedImage], length: int = 256) -> Iterator[EntryRun]:
    """Divide images that were listed in advance into units."""
    iterator = iter(entries)
    while run := tuple(islice(iterator, length)):
        yield EntryRun(run)


def position_of(name: str) -> float:
    """Hash a name to a number in [0, 1), which determines the split."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
