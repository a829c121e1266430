"""Builds data sets from rendered scenes or from folders of user-provided images."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
_MAX_LINES = 20


@dataclass(frozen=True)
class BuildReport:
    """The result of a build.

    Attributes:
        path: Folder of the data set.
        train: Number of training samples.
        validation: Number of validation samples.
        skipped: Images that could not be used.
    """

    path: Path
    train: int
    validation: int
    skipped: list[SkippedImage] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"skipped {image}" for image in self.skipped[:_MAX_LINES]]
        if len(self.skipped) > _MAX_LINES:
            lines.append(f"skipped {len(self.skipped) - _MAX_LINES} more")
        skipped = f", {len(self.skipped)} images skipped" if self.skipped else ""
        return "\n".join([*lines, f"{self.path}: {self.train} train, {self.validation} validation samples{skipped}"])


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
    """Build a data set of rendered scenes. Equal arguments give equal bytes.

    Args:
        out: Folder of the data set.
        train: Number of training samples.
        validation: Number of validation samples.
        seed: Seed of the scenes.
        image_format: Format of stored images.
        autoencoder: Store latents of this autoencoder instead of images.
        base_size: Base size of the buckets to which images are cropped before encoding.
        overwrite: Replace an existing data set.
        progress: Show a progress bar.

    Raises:
        UserError: ``out`` already contains a data set, or an argument is invalid.
    """
    if train < 1 or validation < 0:
        raise UserError(
            f"{train} training and {validation} validation scenes: training requires at least 1, validation at least 0"
        )
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
        _progress_bar(train + validation, progress) as bar,
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
    """Build a data set of all captioned images in a folder and its subfolders.

    Captions come from a .txt or .json file next to each image, or from one table (``captions``, or the captions.csv,
    metadata.csv or metadata.jsonl in ``source``). Images that have no caption or cannot be decoded are skipped. An
    image's ID is its path relative to ``source``, and a hash of the ID determines its split. At least one image is used
    for training. With two or more images and a fraction above 0, at least one image is held out.

    Args:
        source: Folder of the images.
        out: Folder of the data set.
        captions: Caption table to use instead of any other captions.
        validation_fraction: Share of images that are held out, in [0, 1).
        validation: "held-out" divides the images between the splits. "same" uses all images for both training and
            validation, which only shows whether a model memorizes a few images.
        max_side: Scale larger images down so that their longer side has this length.
        autoencoder: Store latents of this autoencoder instead of images.
        base_size: Base size of the buckets to which images are cropped before encoding.
        overwrite: Replace an existing data set.
        progress: Show a progress bar.

    Raises:
        UserError: The folder does not exist or contains no usable image, ``out`` already contains a data set, or an
            argument is invalid.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: the data set cannot be written into the folder of the images; choose another folder")
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation fraction {validation_fraction}: must be at least 0 and less than 1")
    if max_side is not None and max_side < 1:
        raise UserError(f"max side {max_side}: must be at least 1 pixel")
    candidates, skipped = _find_candidates(source, captions)
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
        _progress_bar(len(candidates), progress) as bar,
    ):
        samples = _load_samples(candidates, max_side, skipped, bar)
        assigned = _repeat_in_both(samples) if validation == "same" else _hold_out(samples, validation_fraction)
        for split, sample in assigned:
            writer.add(split, encode_sample(sample, autoencoder, base_size) if autoencoder else sample)
            counts[split] += 1
        if not counts["train"]:
            raise _no_usable_image(source, skipped)
    return BuildReport(out, counts["train"], counts["validation"], skipped)


def _scene_sample(captioned: CaptionedScene, seed: int, image_format: str) -> Sample:
    file = io.BytesIO()
    image = render_scene(captioned.scene)
    image.save(file, **_SCENE_FORMATS[image_format])
    return Sample(
        id=captioned.id,
        captions=tuple(captioned.captions),
        width=image.width,
        height=image.height,
        payload=file.getvalue(),
        extension=image_format,
        annotations=annotate_scene(captioned.scene, captioned.captions[0]),
        seed=seed,
    )


def _find_candidates(source: Path, captions: Path | None) -> tuple[list[Candidate], list[SkippedImage]]:
    """Return the candidates sorted by position, and the images without captions."""
    table = captions or find_table(source)
    entries = list(find_candidates(source, read_table(table) if table else {}, table_only=captions is not None))
    skipped = [entry for entry in entries if isinstance(entry, SkippedImage)]
    candidates = [entry for entry in entries if isinstance(entry, Candidate)]
    if not candidates:
        raise _no_usable_image(source, skipped)
    return sorted(candidates, key=lambda candidate: candidate.position), skipped


def _no_usable_image(source: Path, skipped: list[SkippedImage]) -> UserError:
    if not skipped:
        return UserError(f"{source}: contains no image (.png .jpg .jpeg .webp .bmp .tif)")
    return UserError(f"{source}: none of the {len(skipped)} images is usable; the first problem is: {skipped[0]}")


def _load_samples(
    candidates: list[Candidate], max_side: int | None, skipped: list[SkippedImage], bar: "tqdm[None]"
) -> Iterator[tuple[float, Sample]]:
    """Yield the position and the sample of each image that decodes, and add the others to ``skipped``."""
    for candidate in candidates:
        try:
            yield candidate.position, load_image(candidate, max_side)
        except SampleError as error:
            skipped.append(SkippedImage(candidate.id, str(error)))
        bar.update()


def _repeat_in_both(samples: Iterator[tuple[float, Sample]]) -> Iterator[tuple[str, Sample]]:
    for _, sample in samples:
        yield "train", sample
        yield "validation", sample


def _hold_out(samples: Iterator[tuple[float, Sample]], fraction: float) -> Iterator[tuple[str, Sample]]:
    """Assign samples, sorted by position, to splits.

    The last sample is always used for training. If there are others and the fraction is not 0, the first sample is held
    out even if its position is above the fraction.
    """
    previous: tuple[float, Sample] | None = None
    is_first = True
    for current in samples:
        if previous is not None:
            held_out = fraction > 0 and (is_first or previous[0] < fraction)
            yield "validation" if held_out else "train", previous[1]
            is_first = False
        previous = current
    if previous is not None:
        yield "train", previous[1]


def _progress_bar(total: int, progress: bool) -> "tqdm[None]":
    return tqdm(total=total, desc="building", unit=" samples", smoothing=0.05, disable=not progress)
