"""Tests that training on indexed tars in place is equivalent to training on a data set built from the tars."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datamodules.captions.fields import Field
from datamodules.filters.limits import Filters
from datamodules.filters.where import parse_condition
from datamodules.imports.build import build_dataset
from datamodules.imports.entries import ReadOptions
from datamodules.imports.index import IndexSettings, index_tars
from datamodules.shards.decode import open_stored_image
from datamodules.shards.images import open_image, read_size
from datamodules.shards.module import ShardDataModule
from datamodules.shards.opening import LocalDataset
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import SPLITS, read_info
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from pocketdit.commands.main import main
from pocketdit.errors import RunError, UserError
from tests.conftest import PRETRAIN, ROOT
from tests.datamodules.imports import layout_sources as sources
from tests.datamodules.imports.layout_sources import Expected, Samples, image_bytes, write_tar

SHORT_AND_LONG = ReadOptions(
    image_field=Field("input.png"),
    caption_fields=(Field("meta.json", ("texts", "short")), Field("meta.json", ("texts", "long"))),
)


def index(source: Path | str, out: Path | None, workers: int = 1, overwrite: bool = False, **settings: Any) -> Any:
    return index_tars(str(source), out, IndexSettings(**settings), workers=workers, overwrite=overwrite, progress=False)


def read_back(dataset: Path) -> Samples:
    """Read all samples of an index."""
    samples: Samples = {}
    info = read_info(dataset)
    for split in SPLITS:
        reader = ShardReader(LocalDataset(dataset).load_index(split, info))
        for row in range(len(reader.index)):
            sample = reader.read_sample(row)
            pixels = np.asarray(open_stored_image(sample))
            assert sample.id not in samples
            samples[sample.id] = Expected(pixels, sample.captions, split)
    return samples


def require_equal(dataset: Path, expected: Samples, splits: bool = True) -> None:
    samples = read_back(dataset)
    assert samples.keys() == expected.keys()
    for name, sample in samples.items():
        assert np.array_equal(sample.pixels, expected[name].pixels), name
        assert sample.captions == expected[name].captions
        assert not splits or sample.split == expected[name].split


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("write", "reading"), [(sources.write_img2dataset, ReadOptions()), (sources.write_webdataset, SHORT_AND_LONG)]
)
def test_samples_of_an_index(
    source: Path, tmp_path: Path, write: Callable[[Path], Samples], reading: ReadOptions, in_place: bool
) -> None:
    expected = write(source)
    before = {path: path.read_bytes() for path in source.iterdir()}
    out = None if in_place else tmp_path / "out"
    has_splits = write is sources.write_webdataset
    report = index(source, out, reading=reading, fraction=None if has_splits else 0)
    assert report.train == sum(sample.split == "train" for sample in expected.values())
    require_equal(report.path, expected)
    assert validate_dataset(report.path).problems == []
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(report.path.glob(".building"))


def write_mixed_tar(source: Path) -> None:
    """Write a tar with images of several shapes and formats, with one to three captions each."""
    members: dict[str, bytes] = {}
    for i in range(40):
        size = ((128, 128), (160, 96), (96, 160))[i % 3]
        kind = ("PNG", "JPEG", "WEBP")[i % 3]
        members[f"{i:03d}.{kind.lower()}"] = image_bytes(i, kind, size)
        members[f"{i:03d}.json"] = json.dumps(
            {"captions": [f"a {'very ' * j}nice {i}" for j in range(1 + i % 3)]}
        ).encode()
    write_tar(source / "images.tar", members)


def batches(dataset: Path, count: int = 30) -> tuple[list[Any], list[Any]]:
    module = ShardDataModule(str(dataset), 4, workers=0, crop="random", flip=True)
    training, validation = module.train_dataloader(), module.val_dataloader()
    return [contents(batch) for batch in islice(training, count)], [contents(batch) for batch in validation]


def contents(batch: dict[str, Any]) -> tuple[list[int], list[str], bytes]:
    assert not batch["skipped"]
    return batch["ids"].tolist(), batch["captions"], batch["images"].numpy().tobytes()


def test_batches_equal_those_of_the_imported_images(source: Path, tmp_path: Path) -> None:
    """With a single tar, the order is the same, so all batches of several epochs are the same."""
    write_mixed_tar(source)
    build_dataset(source, tmp_path / "built", validation_fraction=0.2, progress=False)
    index(source, tmp_path / "indexed", fraction=0.2)
    assert read_info(tmp_path / "indexed").samples == read_info(tmp_path / "built").samples
    assert batches(tmp_path / "indexed") == batches(tmp_path / "built")


def test_build_from_several_tars_has_the_same_samples_in_the_same_splits(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write_img2dataset(source, tars=5, samples=8)
    build_dataset(source, tmp_path / "built", validation_fraction=0.3, progress=False)
    index(source, tmp_path / "indexed", fraction=0.3)
    info = read_info(tmp_path / "built")
    expected: Samples = {}
    for split in SPLITS:
        reader = ShardReader(LocalDataset(tmp_path / "built").load_index(split, info))
        for sample in map(reader.read_sample, range(len(reader.index))):
            expected[sample.id] = Expected(np.asarray(open_stored_image(sample)), sample.captions, split)
    assert info.samples["validation"] > 1
    require_equal(tmp_path / "indexed", expected)


def test_number_of_processes_does_not_change_the_index(source: Path, tmp_path: Path) -> None:
    sources.write_img2dataset(source, tars=4)
    for workers in (1, 3):
        index(source, tmp_path / str(workers), workers)
    first, second = (
        {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "1", tmp_path / "3")
    )
    assert first == second


def test_filters_leave_out_the_same_images_as_a_build(source: Path, tmp_path: Path) -> None:
    sources.write_img2dataset(source, tars=3, samples=6)
    filters = Filters(where=(parse_condition("aesthetic > 16.5"),), min_side=20)
    reading = ReadOptions(columns=filters.columns)
    build_dataset(source, tmp_path / "built", filters=filters, reading=reading, validation_fraction=0, progress=False)
    report = index(source, tmp_path / "indexed", filters=filters, reading=reading, fraction=0)
    built, indexed = (read_info(tmp_path / name) for name in ("built", "indexed"))
    assert built.samples == indexed.samples == {"train": 9, "validation": 0}
    assert (
        (built.imported or {})["left_out"] == (indexed.imported or {})["left_out"] == {"--where 'aesthetic > 16.5'": 9}
    )
    assert "left out: --where 'aesthetic > 16.5'" in str(report)


def test_problems_are_named(source: Path, tmp_path: Path) -> None:
    good = {"a.png": image_bytes(0), "a.txt": b"fine"}
    members = good | {
        "b.png": image_bytes(1),
        "c.png": b"",
        "c.txt": b"empty image",
        "d.png": image_bytes(2),
        "d.txt": b" \n",
        "e.txt": b"no image",
        "sub/a.JPG": image_bytes(3, "JPEG"),
        "sub/a.txt": "Ünïcode\n caption".encode(),
    }
    whole = write_tar(source / "a.tar", members).read_bytes()
    write_tar(source / "b.tar", {"x.png": image_bytes(4), "x.txt": b"one", "y.txt": b"?", "x2.png": b""})
    with (source / "c.tar").open("wb") as file:
        file.write(whole[: len(whole) // 2])
    (source / "d.tar").write_bytes(b"")
    write_tar(source / "e.tar", {"k.png": image_bytes(5), "k.txt": b"first", "l.txt": b"between"})
    with tarfile.open(source / "e.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("k.png"))
    report = index(source, tmp_path / "out", fraction=0)
    reasons = {entry.id: entry.reason for entry in report.skipped}
    assert reasons["a.tar/b"] == "the members contain no caption: png"
    assert reasons["a.tar/c"] == "cannot be decoded (the file is empty)"
    assert reasons["a.tar/d"] == "txt does not contain a caption"
    assert reasons["a.tar/e"] == "the members contain no image: txt"
    assert "truncated" in reasons["c.tar"]
    assert reasons["d.tar"] == "cannot be read from byte 0 onward (the file is empty)"
    assert reasons["e.tar/k"] == "an earlier sample of the tar has the same key"
    samples = read_back(tmp_path / "out")
    assert samples["a.tar/sub/a"].captions == ("Ünïcode caption",)
    assert {"a.tar/a", "b.tar/x", "c.tar/a", "e.tar/k"} <= samples.keys()
    assert samples["e.tar/k"].captions == ("first",)


def test_sizes_of_rotated_and_converted_images(source: Path, tmp_path: Path) -> None:
    """Images that a build would convert when it stores them are converted when they are read from the tars."""
    pixels = Image.fromarray(np.arange(24 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(24, 40, 3))
    members: dict[str, bytes] = {}

    def add(name: str, image: Image.Image, kind: str, **options: Any) -> None:
        file = io.BytesIO()
        image.save(file, format=kind, **options)
        members[f"{name}.jpg"] = file.getvalue()  # img2dataset can store any format with this suffix
        members[f"{name}.txt"] = name.encode()

    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        add(f"rotated-{kind.lower()}", pixels, kind, exif=exif)
    add("cmyk", pixels.convert("CMYK"), "JPEG")
    add("deep", Image.fromarray(np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60), "PNG")
    add("palette", pixels.quantize(), "GIF")
    add("bmp", pixels, "BMP")
    write_tar(source / "a.tar", members)
    index(source, tmp_path / "out", fraction=0)
    samples = read_back(tmp_path / "out")
    assert len(samples) == 9
    for name, sample in samples.items():
        content = members[f"{name.removeprefix('a.tar/')}.jpg"]
        expected = open_image(content)
        assert read_size(io.BytesIO(content)) == expected.size
        assert np.array_equal(sample.pixels, np.asarray(expected.rgb)), name
        assert sample.pixels.shape == ((40, 24, 3) if "rotated" in name else (24, 40, 3))


def test_columns_of_further_members_and_tables(source: Path, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for i in range(4):
        members |= {
            f"{i}.png": image_bytes(i),
            f"{i}.txt": b"x",
            f"{i}.scores.json": json.dumps({"clip": i}).encode(),
            f"{i}.cls": f"{i % 2}\n".encode(),
        }
    write_tar(source / "a.tar", members)
    rows = [{"key": str(i), "nsfw": i == 3} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), source / "a.parquet")
    conditions = (
        ("clip >= 2", {"2", "3"}),
        ('row["scores.json"].clip == 1', {"1"}),
        ("cls == 1", {"1", "3"}),
        ('cls == "1"', {"1", "3"}),
        ("not nsfw", {"0", "1", "2"}),
    )
    for number, (text, kept) in enumerate(conditions):
        filters = Filters(where=(parse_condition(text),))
        settings: dict[str, Any] = {"filters": filters, "reading": ReadOptions(columns=filters.columns)}
        index(source, tmp_path / str(number), fraction=0, **settings)
        assert {name.removeprefix("a.tar/") for name in read_back(tmp_path / str(number))} == kept, text
        out = tmp_path / f"built {number}"
        build_dataset(source, out, validation_fraction=0, progress=False, **settings)
        assert read_info(out).samples["train"] == len(kept)


def test_read_only_source(source: Path, tmp_path: Path) -> None:
    expected = sources.write_img2dataset(source)
    before = sorted(source.rglob("*"))
    source.chmod(0o555)
    try:
        index(source, tmp_path / "out")
        require_equal(tmp_path / "out", expected, splits=False)
        assert sorted(source.rglob("*")) == before
    finally:
        source.chmod(0o755)


@pytest.mark.parametrize("change", ["longer", "missing", "other members"])
def test_tar_that_changes_after_indexing_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    sources.write_img2dataset(source)
    index(source, tmp_path / "out", fraction=0)
    tar = source / "00001.tar"
    content = tar.read_bytes()
    if change == "longer":
        tar.write_bytes(content + b"\0" * 512)
    elif change == "missing":
        tar.unlink()
    else:
        with tarfile.open(fileobj=io.BytesIO(content)) as old:
            members = {info.name: old.extractfile(info).read() for info in old}  # type: ignore[union-attr]
        write_tar(tar, {name.replace("10001.txt", "10009.txt"): member for name, member in members.items()})
        assert tar.stat().st_size == len(content)
    with pytest.raises(RunError, match=r"00001.tar: (has changed|cannot be read)"):
        ShardDataModule(str(tmp_path / "out"), 2).setup()
    assert main(["data", "stats", str(tmp_path / "out")]) == 1
    assert "00001.tar: " in capsys.readouterr().err


def test_copied_tars_are_accepted_and_their_new_times_recorded(source: Path, tmp_path: Path) -> None:
    expected = sources.write_img2dataset(source)
    index(source, None, fraction=0)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    file = copy / "train" / "index.safetensors"
    before = file.read_bytes()
    require_equal(copy, expected)
    assert file.read_bytes() != before
    recorded = file.stat().st_mtime_ns
    require_equal(copy, expected)
    assert file.stat().st_mtime_ns == recorded


def test_index_that_is_complete_is_not_written_again(source: Path, tmp_path: Path) -> None:
    sources.write_img2dataset(source)
    assert index(source, tmp_path / "out") is not None
    assert index(source, tmp_path / "out") is None
    with pytest.raises(UserError, match="--overwrite"):
        index(source, tmp_path / "out", fraction=0.5)
    assert index(source, tmp_path / "out", fraction=0.5, overwrite=True).validation > 1
    (source / "00000.tar").unlink()
    with pytest.raises(UserError, match="--overwrite"):
        index(source, tmp_path / "out", fraction=0.5)


def test_no_command_replaces_the_folder_of_indexed_tars(
    source: Path, tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder ``train`` of an in-place index may contain the user's tars, which must not be deleted."""
    sources.write_img2dataset(source / "train")
    sources.write_img2dataset(source / "val")
    report = index(source, None)
    assert (report.train, report.validation) == (6, 6)
    for command in (["data", "build", "scenes"], ["data", "build", str(tmp_path)]):
        assert main([*command, str(source), "--overwrite"]) == 1
    assert main(["data", "encode", str(PRETRAIN), str(scenes), str(source), "--overwrite"]) == 1
    assert "contains an index of tars" in capsys.readouterr().err
    assert len(list(source.rglob("*.tar"))) == 4


def test_own_shards_are_not_indexed_in_place(source: Path) -> None:
    with DatasetWriter(source / "set", kind="image", name="x", source="x"):
        pass
    write_tar(source / "set" / "train" / "a.tar", {"a.png": image_bytes(0), "a.txt": b"x"})
    with pytest.raises(UserError, match="already contains a data set in shards, which needs no index"):
        index(source / "set", None)


def test_damaged_index_is_refused(source: Path, tmp_path: Path) -> None:
    sources.write_img2dataset(source)
    index(source, tmp_path / "out", fraction=0)
    path = tmp_path / "out" / "train" / "index.safetensors"
    content = path.read_bytes()
    names = (b"../00.tar", b"/0000.tar", b"00001.tar")
    outside = (content.replace(b"00000.tar", name) for name in names)
    for damaged in (None, b"", content[:100], *outside):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(UserError, match="index the tars again"):
            ShardDataModule(str(tmp_path / "out"), 2).setup()
    info = tmp_path / "out" / "dataset.json"
    info.write_text(info.read_text().replace('"captions": []', '"captions": [3]'))
    with pytest.raises(UserError, match='"tars" is not valid'):
        ShardDataModule(str(tmp_path / "out"), 2).setup()


def test_killed_command_resumes(source: Path, tmp_path: Path) -> None:
    for shard in range(12):
        members = {f"{i:03d}.png": image_bytes(i) for i in range(60)} | {f"{i:03d}.txt": b"x" for i in range(60)}
        write_tar(source / f"{shard:02d}.tar", dict(sorted(members.items())))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pocketdit", "data", "index", str(source), str(out), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        while not list((out / ".building").glob("*.safetensors")):
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "dataset.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in (out / ".building").glob("0*.safetensors")}
    index(source, out)
    index(source, tmp_path / "whole")
    assert finished
    for split in SPLITS:
        name = f"{split}/index.safetensors"
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (2, ["SOURCE"], "OUT: pass either a folder for the index or --in-place"),
        (2, ["SOURCE", "OUT", "--in-place"], "OUT: pass either a folder for the index or --in-place, but not both"),
        (2, ["SOURCE", "SOURCE"], "pass --in-place instead"),
        (1, ["missing", "OUT"], "no such folder"),
        (1, ["EMPTY", "OUT"], "contains no .tar file"),
        (2, ["SOURCE", "OUT", "--validation", "2"], "--validation 2: must be at least 0 and less than 1"),
        (1, ["SOURCE", "OUT", "--where", "colour == 1"], "no image has the column 'colour'"),
        (1, ["SOURCE", "OUT", "--image-field", "bmp"], "none of the 6 samples is usable for training"),
        (2, ["https://example.com/tars", "OUT"], "web servers cannot list files"),
        (2, ["s3://bucket/tars", "--in-place"], "--in-place requires a local folder"),
    ],
)
def test_mistakes_get_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, arguments: list[str], message: str
) -> None:
    sources.write_img2dataset(source)
    (tmp_path / "empty").mkdir()
    names = {"SOURCE": source, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    words = [str(names.get(word, word)) for word in arguments]
    assert main(["data", "index", *words, "--workers", "1"]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if "indexing" not in line]
    assert message in lines[-1]


def test_command_with_a_mapping(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = sources.write_webdataset(source)
    fields = ("--image-field", "input.png", "--caption-field", "meta.json:texts.short")
    command = ["data", "index", str(source), str(tmp_path / "out"), *fields, "--workers", "1"]
    assert main([*command, "--caption-field", "meta.json:texts.long"]) == 0
    require_equal(tmp_path / "out", expected)
    assert "4 train, 2 validation samples" in capsys.readouterr().out
