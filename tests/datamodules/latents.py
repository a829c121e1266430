"""Builds data sets of latents for tests."""

from pathlib import Path

from datamodules.encoding.encode import encode_dataset
from datamodules.encoding.job import EncodeJob
from datamodules.encoding.team import SingleProcess
from datamodules.scenes.generator import SceneGenerator
from datamodules.shards.buckets import BucketShape
from datamodules.shards.build_generated import ImageGenerator, build_generated
from pocketdit.config.component import Component

DCT = Component("pocketdit.encoders.dct.DCTAutoencoder")


def build_latents(
    out: Path,
    train: int,
    validation: int,
    autoencoder: Component = DCT,
    *,
    base_size: int = 128,
    buckets: BucketShape = "aspect",
    generator: ImageGenerator | None = None,
) -> None:
    """Generate images in a folder next to ``out``, and encode them without text."""
    images = out.with_name(f"{out.name}-images")
    build_generated(generator or SceneGenerator(), images, train, validation, progress=False)
    job = EncodeJob(images, out, autoencoder, {}, (base_size,), buckets, dtype="float32")
    encode_dataset(job, SingleProcess(job))
