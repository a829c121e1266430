"""Writes folders of images with captions, and reads the data sets that are built from them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.imports.build import build_dataset
from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from datamodules.shards.report import BuildReport
from datamodules.shards.schema import Sample
from datamodules.shards.validate import validate_dataset
from evaluation.contract import open_image as open_for_metric
from evaluation.metrics.image_source import open_source


def write(
    folder: Path, images: list[str], texts: dict[str, str] | None = None, size: tuple[int, int] = (64, 64)
) -> None:
    for number, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 50, 50)).save(folder / name)
    for name, text in (texts or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))


def build(source: Path, **options: object) -> tuple[BuildReport, dict[str, dict[str, Sample]]]:
    """Build a data set, and return the report and, for each split, a mapping from IDs to samples."""
    out = source.parent / "out"
    report = build_dataset(source, out, progress=False, **options)  # type: ignore[arg-type]
    assert validate_dataset(out).problems == []
    splits: dict[str, dict[str, Sample]] = {}
    for split in ("train", "validation"):
        reader = ShardReader(load_index(out, split, "image"))
        splits[split] = {sample.id: sample for sample in map(reader.read_sample, range(len(reader.index)))}
    assert (report.train, report.validation) == (len(splits["train"]), len(splits["validation"]))
    return report, splits


def captions(source: Path, **options: object) -> dict[str, tuple[str, ...]]:
    samples = build(source, validation_fraction=0.0, **options)[1]["train"]
    return {name: sample.captions for name, sample in samples.items()}


def seen(tmp_path: Path, name: str) -> np.ndarray:
    """Build a data set of one image, and return its pixels after checking that metrics read the same pixels."""
    folder = tmp_path / "source"
    (folder / name).with_suffix(".txt").write_text("a caption")
    build_dataset(folder, tmp_path / "out", progress=False)
    reader = ShardReader(load_index(tmp_path / "out", "train", "image"))
    sample = reader.read_sample(0)
    with Image.open(io.BytesIO(sample.payload)) as stored:
        assert stored.mode == "RGB"
        pixels = np.asarray(stored)
    assert (sample.height, sample.width) == pixels.shape[:2]
    for other in (open_for_metric(folder / name), open_source(folder).read(0), open_source(tmp_path / "out").read(0)):
        assert other.shape == pixels.shape
        assert np.abs(other.astype(int) - pixels).max() <= (2 if sample.extension == "jpg" else 0)
    return pixels
