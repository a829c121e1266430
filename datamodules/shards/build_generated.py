"""Builds data sets of generated images, such as rendered scenes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from PIL import Image

from datamodules.shards.attribution import Attribution
from datamodules.shards.report import BuildReport, progress_bar
from datamodules.shards.schema import SPLITS, Sample, Split
from datamodules.shards.writer import DatasetWriter
from pocketdit.errors import UserError

_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "lossless": True},
}


class GeneratedImage(NamedTuple):
    """A generated image.

    Attributes:
        id: Permanent ID, unique in the data set.
        image: RGB image.
        captions: The short caption, followed by longer captions.
        annotations: Exact description of the image, which can be serialized as JSON.
    """

    id: str
    image: Image.Image
    captions: list[str]
    annotations: dict[str, Any]


class ImageGenerator(Protocol):
    """Generates captioned images."""

    @property
    def name(self) -> str:
        """Short name of the data set."""
        ...

    @property
    def origin(self) -> str:
        """Human-readable description of the source of the images."""
        ...

    @property
    def attribution(self) -> Attribution | None:
        """License and authors of the images' content, or None if no attribution is required."""
        ...

    def generate(self, split: Split, count: int, seed: int) -> Iterator[GeneratedImage]:
        """Yield ``count`` images of a split. The images depend only on the arguments."""
        ...


def build_generated(
    generator: ImageGenerator,
    out: Path,
    train: int,
    validation: int,
    seed: int = 0,
    *,
    image_format: Literal["png", "jpg", "webp"] = "png",
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Build a data set of generated images. The same arguments always produce a byte-identical data set.

    Args:
        generator: Generator of the images.
        out: Folder of the data set.
        train: Number of training samples.
        validation: Number of validation samples.
        seed: Seed of the images.
        image_format: Format in which the images are stored.
        overwrite: Replace an existing data set.
        progress: Show a progress bar.

    Raises:
        UserError: ``out`` already contains a data set, or an argument is invalid.
    """
    if train < 1 or validation < 0:
        raise UserError(
            f"{train} training and {validation} validation samples: training requires at least 1, validation at least 0"
        )
    if image_format not in _FORMATS:
        raise UserError(f"image format {image_format!r}: choose one of {', '.join(_FORMATS)}")
    with (
        DatasetWriter(
            out,
            kind="image",
            name=generator.name,
            source=f"{generator.origin}, seed {seed}",
            overwrite=overwrite,
            attribution=generator.attribution,
        ) as writer,
        progress_bar(train + validation, progress) as bar,
    ):
        for split, count in zip(SPLITS, (train, validation), strict=True):
            for generated in generator.generate(split, count, seed):
                writer.add(split, _encode_image(generated, seed, image_format))
                bar.update()
    return BuildReport(out, train, validation)


def _encode_image(generated: GeneratedImage, seed: int, image_format: str) -> Sample:
    file = io.BytesIO()
    generated.image.save(file, **_FORMATS[image_format])
    return Sample(
        id=generated.id,
        captions=tuple(generated.captions),
        width=generated.image.width,
        height=generated.image.height,
        payload=file.getvalue(),
        extension=image_format,
        annotations=generated.annotations,
        seed=seed,
    )
