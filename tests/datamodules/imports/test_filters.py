"""Tests the filters on a small source for which the number of images that each filter excludes is known."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data

from datamodules.filters.limits import Filters
from datamodules.filters.where import parse_condition
from datamodules.imports.build import build_dataset
from datamodules.imports.entries import ReadOptions
from datamodules.shards.report import BuildReport
from datamodules.shards.schema import read_info
from datamodules.shards.stats import describe_dataset
from pocketdit.errors import UserError
from tests.datamodules.imports.layout_sources import image_bytes, write_img2dataset, write_tar
from tests.datamodules.imports.test_layouts import read_back


def build(source: Path, filters: Filters, **options: Any) -> tuple[BuildReport, set[str]]:
    out = source.parent / "out"
    reading = ReadOptions(columns=filters.columns)
    report = build_dataset(
        source, out, reading=reading, filters=filters, validation_fraction=0.0, progress=False, **options
    )
    info = read_info(out)
    assert info.imported is not None
    assert info.imported["left_out"] == dict(report.skips.by_rule)
    assert info.imported["images"] == report.train + report.skips.total
    return report, set(read_back(out))


def test_every_limit_counts_what_it_leaves_out(source: Path) -> None:
    sizes = {
        "tiny": (20, 90),
        "wide": (400, 50),
        "big": (300, 300),
        "low": (40, 40),
        "fine": (90, 100),
        "edge": (60, 60),
    }
    words = {"fine": 3, "edge": 5}
    for number, (name, size) in enumerate(sizes.items()):
        (source / f"{name}.png").write_bytes(image_bytes(number, size=size))
        (source / f"{name}.txt").write_text(" ".join(["word"] * words.get(name, 4)))
    for name, count in (("short", 2), ("long", 6)):
        (source / f"{name}.png").write_bytes(image_bytes(0, size=(90, 90)))
        (source / f"{name}.txt").write_text(" ".join(["word"] * count))
    filters = Filters(min_side=40, max_aspect=2.0, min_pixels=3600, max_pixels=9000, min_words=3, max_words=5)
    report, kept = build(source, filters)
    assert kept == {"fine.png", "edge.png"}  # these images are exactly at the limits, which are inclusive
    lines = [line.split() for line in describe_dataset(source.parent / "out").splitlines()]
    assert ["used", "2"] in lines
    assert ["--min-words", "3", "--max-words", "5", "2"] in lines
    assert report.skips.by_rule == {
        "--min-side 40": 1,
        "--max-aspect 2": 1,
        "--max-pixels 9000": 1,
        "--min-pixels 3600": 1,
        "--min-words 3 --max-words 5": 2,
    }
    reasons = {entry.id: entry.reason for entry in report.skipped}
    assert reasons["wide.png"] == "left out: --max-aspect 2"
    assert reasons["long.png"] == "left out: --min-words 3 --max-words 5 leaves no caption"
    assert "left out: 2 --min-words 3 --max-words 5, 1 --" in str(report)


def test_captions_of_other_lengths_are_removed(source: Path) -> None:
    (source / "a.png").write_bytes(image_bytes(1))
    (source / "a.json").write_text(json.dumps({"captions": ["one", "one two", "one two three", "1 2 3 4"]}))
    build(source, Filters(min_words=2, max_words=3))
    assert read_back(source.parent / "out")["a.png"].captions == ("one two", "one two three")


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["aesthetic > 13"], {10: {0, 1, 2}}),
        (["aesthetic > 4.5 and width == 40", "aesthetic < 15.5"], {0: {1, 2}, 10: {0, 1}}),
    ],
)
def test_conditions_see_the_columns_of_img2dataset(
    source: Path, conditions: list[str], kept: dict[int, set[int]]
) -> None:
    """The column "aesthetic" (4 + the picture's number) is in the Parquet files, "width" in the JSON members."""
    write_img2dataset(source)
    report, names = build(source, Filters(where=tuple(map(parse_condition, conditions))))
    expected = {f"{shard // 10:05d}.tar/{shard // 10:05d}{i:04d}" for shard, numbers in kept.items() for i in numbers}
    assert names == expected
    assert report.skips.total == 6 - len(names)


def test_conditions_see_tables_and_json_files_of_a_folder(source: Path) -> None:
    for number in range(4):
        (source / f"{number}.png").write_bytes(image_bytes(number))
    (source / "metadata.csv").write_text("file_name,text,score\n0.png,a,1.5\n1.png,b,0.5\n2.png,c,\n")
    (source / "3.json").write_text('{"caption": "d", "score": 2}')
    report, kept = build(source, Filters(where=(parse_condition("score >= 1"),)))
    assert kept == {"0.png", "3.png"}
    assert report.skips.by_rule == {"--where 'score >= 1'": 1, "--where 'score >= 1' (no value)": 1}


def test_misspelt_column_is_refused_with_the_names_of_the_columns(source: Path) -> None:
    write_img2dataset(source)
    with pytest.raises(UserError, match=r"--where: no image has the column 'scores'; the columns are: .*caption"):
        build(source, Filters(where=(parse_condition("scores > 1"),)))
    assert not list(source.parent.glob("out/**/*.images"))


def test_first_of_several_duplicates_is_kept(source: Path) -> None:
    """If an image occurs in two tars, the copy in the first tar is kept, whatever its key and format."""
    members: dict[str, bytes] = {}
    for name, number, kind in (("x", 1, "PNG"), ("y", 2, "PNG"), ("z", 1, "WEBP")):
        suffix = kind.lower()
        members |= {f"{name}.{suffix}": image_bytes(number, kind), f"{name}.txt": name.encode()}
    members["z.webp"] = _lossless(1)
    write_tar(source / "0.tar", members)
    write_tar(source / "1.tar", {"a.png": image_bytes(1), "a.txt": b"a", "b.png": image_bytes(3), "b.txt": b"b"})
    report, kept = build(source, Filters(duplicates="exact"))
    assert kept == {"0.tar/x", "0.tar/y", "1.tar/b"}
    reasons = {entry.id: entry.reason for entry in report.skipped}
    assert reasons == {
        "0.tar/z": "left out: --drop-duplicates exact: it looks like 0.tar/x",
        "1.tar/a": "left out: --drop-duplicates exact: it looks like 0.tar/x",
    }


def _lossless(number: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(image_bytes(number))).save(file, format="WEBP", lossless=True)
    return file.getvalue()


def test_near_duplicates_are_left_out(source: Path) -> None:
    picture = Image.fromarray(data.chelsea())
    for name, size, picked in (
        ("a", (300, 200), picture),
        ("b", (150, 100), picture),
        ("c", (300, 200), data.coffee()),
    ):
        file = io.BytesIO()
        image = picked if isinstance(picked, Image.Image) else Image.fromarray(picked)
        image.resize(size).save(file, format="JPEG")
        (source / f"{name}.jpg").write_bytes(file.getvalue())
        (source / f"{name}.txt").write_text(name)
    report, kept = build(source, Filters(duplicates=3))
    assert len(kept & {"a.jpg", "b.jpg"}) == 1
    assert "c.jpg" in kept
    assert report.skips.by_rule == {"--drop-duplicates 3": 1}
    assert build(source, Filters(duplicates="exact"), overwrite=True)[1] == {"a.jpg", "b.jpg", "c.jpg"}
