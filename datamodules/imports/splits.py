"""Divides images between training and validation."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from datamodules.shards.sources import name_of, split_of_folders


class Divisible(Protocol):
    """A sample that can be assigned to a split.

    Attributes:
        position: Hash of the sample's ID as a number in [0, 1).
        split: The sample's split in the source, or None if the source has no splits.
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
        own: Whether to keep the splits of the source.
        validation: "same" yields every sample twice, once for training and once for validation.
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

    The last sample is always used for training. If there are several samples and the fraction is not 0, the first
    sample is held out even if its position is above the fraction.
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
    """Return a mapping from the source's folders for training and validation to their splits.

    The folders may be at any depth, as in images/train and images/val. None means that a folder is left out (see
    ``split_of_folders``).
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
    """Describe in one line which splits the source's folders or files are used for."""
    uses = {"train": "for training", "validation": "for validation", None: "not used"}
    parts = [f"{name_of(path, source)}{'/' if path.is_dir() else ''} {uses[split]}" for path, split in splits.items()]
    return f"splits are the folders of the source: {', '.join(parts)}"


def splits_of_files(paths: Sequence[Path], root: Path) -> dict[Path, str | None]:
    """Return the splits of files that contain many images each, such as tars.

    A file's split is determined by its folder (see ``splits_of_folders``) or by a word in its name, as in
    train-00000-of-00002.parquet and imagenet1k-validation-00.tar.

    Returns:
        A mapping from each file to its split, or to None if the file is left out. It is empty if the source has no
        splits.
    """
    folders = splits_of_folders(paths, root)
    if folders:
        return {path: next((folders[folder] for folder in path.parents if folder in folders), None) for path in paths}
    words = {path: [word for word in re.split(r"[-_.]", path.stem) if word] for path in paths}
    splits = split_of_folders(sorted({word for names in words.values() for word in names}))
    return (
        {path: next((splits[word] for word in words[path] if word in splits), None) for path in paths} if splits else {}
    )
