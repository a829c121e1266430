"""Tests that WebDataset and PIL read the same pixels from a data set as from its source, for every layout."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from datamodules.captions.fields import Field
from datamodules.imports.build import build_dataset
from datamodules.imports.entries import ReadOptions
from datamodules.shards.report import BuildReport
from datamodules.shards.schema import read_info
from datamodules.shards.validate import validate_dataset
from tests.datamodules.imports import layout_sources as sources
from tests.datamodules.imports.layout_sources import Expected, Samples

SHORT_AND_LONG = ReadOptions(
    image_field=Field("input.png"),
    caption_fields=(Field("meta.json", ("texts", "short")), Field("meta.json", ("texts", "long"))),
)
LAYOUTS: dict[str, tuple[Callable[[Path], Samples], ReadOptions, str]] = {
    "img2dataset": (sources.write_img2dataset, ReadOptions(), "tars (the output of img2dataset, 2 tars)"),
    "webdataset": (sources.write_webdataset, SHORT_AND_LONG, "tars (WebDataset, 3 tars)"),
    "parquet": (sources.write_hugging_face_parquet, ReadOptions(), "Parquet with images (3 files)"),
    "coco": (
        sources.write_coco,
        ReadOptions(),
        "COCO captions (annotations/captions_train2017.json, annotations/captions_val2017.json)",
    ),
    "class folders": (sources.write_class_folders, ReadOptions(), "class folders, as in ImageNet"),
    "imagenet tars": (
        sources.write_imagenet_tars,
        ReadOptions(),
        "the official tars of ImageNet (ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar)",
    ),
}


def read_back(out: Path) -> Samples:
    """Read a data set with WebDataset and PIL instead of this project's code."""
    samples = {}
    for split in ("train", "validation"):
        shards = [str(shard) for shard in sorted((out / split).glob("*.tar"))]
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False) if shards else ():
            metadata = json.loads(sample["json"])
            (content,) = [sample[name] for name in ("png", "jpg", "webp") if name in sample]
            pixels = np.asarray(Image.open(io.BytesIO(content)))
            assert (metadata["height"], metadata["width"]) == pixels.shape[:2]
            samples[metadata["id"]] = Expected(pixels, tuple(metadata["captions"]), split)
    return samples


def require_equal(out: Path, expected: Samples) -> None:
    samples = read_back(out)
    assert samples.keys() == expected.keys()
    for name, sample in samples.items():
        assert sample.captions == expected[name].captions, name
        assert sample.split == expected[name].split, name
        assert np.array_equal(sample.pixels, expected[name].pixels), name


def check(source: Path, expected: Samples, reading: ReadOptions, description: str) -> BuildReport:
    out = source.parent / "out"
    has_splits = {sample.split for sample in expected.values()} == {"train", "validation"}
    fraction = None if has_splits else 0.0
    report = build_dataset(source, out, reading=reading, validation_fraction=fraction, progress=False)
    require_equal(out, expected)
    assert validate_dataset(out).problems == []
    assert report.notes[0] == f"layout: {description}"
    imported = read_info(out).imported
    assert imported is not None
    assert imported["layout"] == description
    assert imported["images"] == len(expected) + report.skips.total
    return report


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_recognized_and_read(source: Path, name: str) -> None:
    write, reading, description = LAYOUTS[name]
    report = check(source, write(source), reading, description)
    assert report.skips.total == 0


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_table_of_paths(source: Path, suffix: str) -> None:
    table, expected = sources.write_path_table(source, suffix)
    out = source.parent / "out"
    reading = ReadOptions(caption_fields=(Field("title"),))
    build_dataset(table, out, reading=reading, validation_fraction=0.0, progress=False)
    require_equal(out, expected)


def test_report_of_img2dataset_counts_failed_downloads(source: Path) -> None:
    sources.write_img2dataset(source)
    report = build_dataset(source, source.parent / "out", progress=False)
    assert "rows that img2dataset could not download: 2 (2 failed_to_download)" in report.notes
    assert not any("other files" in note for note in report.notes)
