"""Builds a data set: the embedded scenes, or a folder of the user's own pictures."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from datamodules.scenes.captions import annotate_scene
from datamodules.scenes.render import render_scene
from datamodules.scenes.split import CaptionedScene, Split, generate_scenes
from datamodules.shards.caption_files import find_table, read_table
from datamodules.shards.image_folder import Candidate, SkippedImage, find_candidates, load_image
from datamodules.shards.latents import describe_autoencoder, encode_sample
from datamodules.shards.schema import SPLITS, Sample, SampleError
from datamodules.shards.writer import DatasetWriter
from pocketdit.encoders.contract import Autoencoder
from pocketdit.errors import UserError

_SCENE_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "lossless": True},
}
_MOST_LINES = 20


@dataclass(frozen=True)
class BuildReport:
    """What a build wrote, and what it left out."""

    path: Path
    train: int
    validation: int
    left: list[SkippedImage] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"left out {entry}" for entry in self.left[:_MOST_LINES]]
        if len(self.left) > _MOST_LINES:
            lines.append(f"left out {len(self.left) - _MOST_LINES} more")
        left = f", {len(self.left)} left out" if self.left else ""
        return "\n".join([*lines, f"{self.path}: {self.train} train, {self.validation} validation samples{left}"])


def build_scenes(
    out: Path,
    train: int,
    validation: int,
    seed: int = 0,
    *,
    image_format: Literal["png", "jpg", "webp"] = "png",
    autoencoder: Autoencoder | None = None,
    base_size: int = 128,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Draws the embedded scenes; the same arguments give the same bytes.

    Args:
        autoencoder: stores latents instead of images (cut to the buckets of ``base_size``).

    Raises:
        UserError: ``out`` holds a data set already, or there is nothing to build.
    """
    if train < 1 or validation < 0:
        raise UserError(f"{train} train and {validation} validation scenes: give at least 1 and 0")
    if image_format not in _SCENE_FORMATS:
        raise UserError(f"image format {image_format!r}: choose one of {', '.join(_SCENE_FORMATS)}")
    counts: dict[Split, int] = {"train": train, "validation": validation}
    with (
        DatasetWriter(
            out,
            kind="image" if autoencoder is None else "latent",
            name="scenes",
            source=f"datamodules.scenes, seed {seed}",
            autoencoder=None if autoencoder is None else describe_autoencoder(autoencoder, base_size),
            overwrite=overwrite,
        ) as writer,
        _bar(train + validation, progress) as bar,
    ):
        for split, count in counts.items():
            for captioned in generate_scenes(split, count, seed):
                sample = _scene_sample(captioned, seed, image_format)
                writer.add(split, encode_sample(sample, autoencoder, base_size) if autoencoder else sample)
                bar.update()
    return BuildReport(out, train, validation)


def build_folder(
    source: Path,
    out: Path,
    *,
    captions: Path | None = None,
    validation_fraction: float = 0.05,
    validation: Literal["held-out", "same"] = "held-out",
    max_side: int | None = None,
    autoencoder: Autoencoder | None = None,
    base_size: int = 128,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Makes a data set of all captioned pictures below ``source``.

    Captions stand in a .txt or .json beside each picture, or in one table (``captions``, or captions.csv,
    metadata.csv or metadata.jsonl in ``source``). Pictures without one, or that do not decode, are left out.
    A picture's path below ``source`` is its id, and a hash of it decides its split: at least one picture
    is for training and, with two or more and a fraction above 0, at least one is held out.

    Args:
        captions: use this table and nothing else.
        validation: "same" keeps every picture for training and repeats all of them for validation, to watch a
            model learn a handful of pictures by heart; it measures nothing else.
        max_side: scale larger pictures down to it.
        autoencoder: stores latents instead of images (cut to the buckets of ``base_size``).

    Raises:
        UserError: no such folder, no usable picture, or ``out`` holds a data set already.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: the data set cannot be written into the folder of the pictures")
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation fraction {validation_fraction}: give a number from 0 to below 1")
    if max_side is not None and max_side < 1:
        raise UserError(f"max side {max_side}: give a number of pixels")
    candidates, left = _candidates(source, captions)
    counts = dict.fromkeys(SPLITS, 0)
    with (
        DatasetWriter(
            out,
            kind="image" if autoencoder is None else "latent",
            name=source.resolve().name,
            source=str(source.resolve()),
            autoencoder=None if autoencoder is None else describe_autoencoder(autoencoder, base_size),
            overwrite=overwrite,
            validation_is_train=validation == "same",
        ) as writer,
        _bar(len(candidates), progress) as bar,
    ):
        samples = _loaded(candidates, max_side, left, bar)
        shared_out = _repeated(samples) if validation == "same" else _held_out(samples, validation_fraction)
        for split, sample in shared_out:
            writer.add(split, encode_sample(sample, autoencoder, base_size) if autoencoder else sample)
            counts[split] += 1
        if not counts["train"]:
            raise _nothing_usable(source, left)
    return BuildReport(out, counts["train"], counts["validation"], left)


def _scene_sample(captioned: CaptionedScene, seed: int, image_format: str) -> Sample:
    file = io.BytesIO()
    picture: Image.Image = render_scene(captioned.scene)
    picture.save(file, **_SCENE_FORMATS[image_format])
    return Sample(
        id=captioned.id,
        captions=tuple(captioned.captions),
        width=picture.width,
        height=picture.height,
        payload=file.getvalue(),
        extension=image_format,
        annotations=annotate_scene(captioned.scene, captioned.captions[0]),
        seed=seed,
    )


def _candidates(source: Path, captions: Path | None) -> tuple[list[Candidate], list[SkippedImage]]:
    table = captions or find_table(source)
    found = list(find_candidates(source, read_table(table) if table else {}, table_only=captions is not None))
    left = [entry for entry in found if isinstance(entry, SkippedImage)]
    candidates = [entry for entry in found if isinstance(entry, Candidate)]
    if not candidates:
        raise _nothing_usable(source, left)
    return sorted(candidates, key=lambda candidate: candidate.position), left


def _nothing_usable(source: Path, left: list[SkippedImage]) -> UserError:
    if not left:
        return UserError(f"{source}: no picture (.png .jpg .jpeg .webp .bmp .tif) in this folder")
    return UserError(f"{source}: none of {len(left)} pictures is usable, the first: {left[0]}")


def _loaded(
    candidates: list[Candidate], max_side: int | None, left: list[SkippedImage], bar: "tqdm[None]"
) -> Iterator[tuple[float, Sample]]:
    for candidate in candidates:
        try:
            yield candidate.position, load_image(candidate, max_side)
        except SampleError as error:
            left.append(SkippedImage(candidate.id, str(error)))
        bar.update()


def _repeated(samples: Iterator[tuple[float, Sample]]) -> Iterator[tuple[str, Sample]]:
    for _, sample in samples:
        yield "train", sample
        yield "validation", sample


def _held_out(samples: Iterator[tuple[float, Sample]], fraction: float) -> Iterator[tuple[str, Sample]]:
    """Of samples by ascending position the first is held out (if any is to be), the last is for training."""
    previous: tuple[float, Sample] | None = None
    first = True
    for following in samples:
        if previous is not None:
            held_out = fraction > 0 and (first or previous[0] < fraction)
            yield "validation" if held_out else "train", previous[1]
            first = False
        previous = following
    if previous is not None:
        yield "train", previous[1]


def _bar(total: int, progress: bool) -> "tqdm[None]":
    return tqdm(total=total, desc="building", unit=" samples", smoothing=0.05, disable=not progress)
