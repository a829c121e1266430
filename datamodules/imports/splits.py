"""Divides images between training and validation."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from datamodules.shards.sources import name_of, split_of_folders


class Divisible(Protocol):
    """A sample that can be assigned to a split.

    Attributes:
        position: A hash of the ID in [0, 1).
        split: The split of the source that contains it, or None.
    """

    @property
    def position(self) -> float: ...  # noqa: D102

    @property
    def split(self) -> str | None: ...  # noqa: D102


T = TypeVar("T", bound=Divisible)


def divide(
    samples: Iterable[T], own: bool, validation: Literal["held-out", "same"], fraction: float
) -> Iterator[tuple[str, T]]:
    """Yield each sample with its split.

    Args:
        samples: The samples.
        own: Keep the splits of the source.
        validation: "same" yields all samples twice, for training and for validation.
        fraction: Share of samples that are held out.
    """
    if own:
        return _keep_splits(samples)
    return _repeat_in_both(samples) if validation == "same" else _hold_out(samples, fraction)


def _keep_splits(samples: Iterable[T]) -> Iterator[tuple[str, T]]:
    for sample in samples:
        assert sample.split is not None
        yield sample.split, sample


def _repeat_in_both(samples: Iterable[T]) -> Iterator[tuple[str, T]]:
    for sample in samples:
        yield "train", sample
        yield "validation", sample


def _hold_out(samples: Iterable[T], fraction: float) -> Iterator[tuple[str, T]]:
    """Assign samples to splits by their position.

    The last sample is always used for training. If there are others and the fraction is not 0, the first sample is held
    out even if its position is above the fraction.
    """
    previous: T | None = None
    is_first = True
    for current in samples:
        if previous is not None:
            held_out = fraction > 0 and (is_first or previous.position < fraction)
            yield "validation" if held_out else "train", previous
            is_first = False
        previous = current
    if previous is not None:
        yield "train", previous


def splits_of_folders(paths: Iterable[Path], root: Path) -> dict[Path, str | None]:
    """Return the splits of the source's own folders for training and validation, by the path of the folder.

    The folders may be at any depth, as in images/train and images/val (see ``split_of_folders``).
    """
    names_in: dict[Path, set[str]] = {}
    for path in paths:
        for folder in path.parents:
            if folder == root:
                break
            names_in.setdefault(folder.parent, set()).add(folder.name)
    splits: dict[Path, str | None] = {}
    for parent, names in sorted(names_in.items(), key=lambda item: len(item[0].parts)):
        if not splits.keys() & {parent, *parent.parents}:
            splits |= {parent / name: split for name, split in split_of_folders(sorted(names)).items()}
    return splits


def describe_splits(splits: dict[Path, str | None], source: Path) -> str:
    """Describe the splits of the source's own folders or files in one line."""
    uses = {"train": "for training", "validation": "for validation", None: "is left out"}
    parts = [f"{name_of(path, source)}{'/' if path.is_dir() else ''} {uses[split]}" for path, split in splits.items()]
    return f"splits are the folders of the source: {', '.join(parts)}"


def splits_of_files(paths: Sequence[Path], root: Path) -> dict[Path, str | None]:
    """Return the splits of files that contain many images each, such as tars.

    The splits are the folders of the source (see ``splits_of_folders``), or words in the names of the files, as in
    train-00000-of-00002.parquet and imagenet1k-validation-00.tar.

    Returns:
        The split of each file, or None for those to leave out; empty if the source has no splits.
    """
    folders = splits_of_folders(paths, root)
    if folders:
        return {path: next((folders[folder] for folder in path.parents if folder in folders), None) for path in paths}
    words = {path: [word for word in re.split(r"[-_.]", path.stem) if word] for path in paths}
    splits = split_of_folders(sorted({word for names in words.values() for word in names}))
    return (
        {path: next((splits[word] for word in words[path] if word in splits), None) for path in paths} if splits else {}
    )
