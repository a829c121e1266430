"""Tests that samples crafted to break a reader are skipped and counted, and that none ends a run or a validation."""

import io
import logging
import os
import re
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from datamodules.shards.index import load_index
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import LATENT_EXTENSION, Sample
from datamodules.shards.stats import describe_dataset
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from pocketdit.commands.main import main
from tests.fuzz.images import fake_ghostscript, huge_png, image_bytes
from tests.fuzz.tar_files import (
    edit_json,
    edit_member,
    forge_header,
    header_offset,
    insert_bytes,
    pad,
    read_members,
    write_members,
)


def _insert(shard: Path, *blocks: bytes) -> None:
    insert_bytes(shard, header_offset(shard, "00000010.json"), b"".join(blocks))


def _pax(record: bytes) -> bytes:
    return forge_header(b"pax", len(record), kind=tarfile.XHDTYPE) + pad(record)


def _replace(shard: Path, create: Callable[[Path], object]) -> None:
    shard.unlink()
    create(shard)


# Kinds of damage to 00001.tar (samples 7 to 13), each with a function, the lost rows, and the reported reason.
KINDS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "huge width": (lambda s: edit_json(s, 9, width=10**12), 1, "megapixels"),
    "huge height": (lambda s: edit_json(s, 9, height=10**4000), 1, "megapixels"),
    "nested brackets": (lambda s: edit_member(s, 9, "json", b"[" * 100_000), 1, "json cannot be parsed"),
    "unpaired surrogate in a caption": (lambda s: edit_json(s, 9, captions=["\ud83d"]), 1, "is not a string"),
    "unpaired surrogate in an id": (lambda s: edit_json(s, 9, id="\udce9"), 1, '"id" is not'),
    "negative size": (lambda s: _insert(s, forge_header(b"9.txt", -1024)), 4, "negative size"),
    "negative size in an extended header": (
        lambda s: _insert(s, _pax(b"13 size=-512\n"), forge_header(b"9.txt", 0)),
        4,
        "negative size|cannot be read as tar",
    ),
    "size of four exabytes": (lambda s: _insert(s, forge_header(b"9.txt", 2**62)), 4, "truncated inside 9.txt"),
    "many long names": (
        lambda s: _insert(s, (forge_header(b"long", 4, kind=b"L") + pad(b"abc\0")) * 3000),
        4,
        "cannot be read as tar",
    ),
    "sparse member": (
        lambda s: _insert(s, forge_header(b"00000010.png", 0, kind=tarfile.GNUTYPE_SPARSE) + bytes(512)),
        4,
        "cannot be read as tar|damaged",
    ),
    "block of zeros": (lambda s: _insert(s, bytes(512)), 4, "damaged: data after the end-of-archive block"),
    "EPS": (lambda s: edit_member(s, 9, "png", image_bytes("EPS")), 1, "unknown image format"),
    "TIFF": (lambda s: edit_member(s, 9, "png", image_bytes("TIFF")), 1, "unknown image format"),
    "GIF": (lambda s: edit_member(s, 9, "png", image_bytes("GIF")), 1, "unknown image format"),
    "image of 3.6 gigapixels": (lambda s: edit_member(s, 9, "png", huge_png()), 1, "more than 268 megapixels"),
    "pipe": (lambda s: _replace(s, os.mkfifo), 7, "not a regular file"),
    "device": (lambda s: _replace(s, lambda path: path.symlink_to("/dev/zero")), 7, "not a regular file"),
    "folder": (lambda s: _replace(s, Path.mkdir), 7, "not a regular file"),
    "dangling link": (lambda s: _replace(s, lambda path: path.symlink_to("missing")), 7, "cannot be read"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_sample_is_skipped_counted_and_reported(
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    started = fake_ghostscript(tmp_path)
    damage, lost, reason = KINDS[kind]
    path = make_dataset(validation=0)
    damage(path / "train" / "00001.tar")
    module = ShardDataModule(str(path), batch_size=4, workers=0)
    with caplog.at_level(logging.WARNING, logger="datamodules"):
        batches = list(islice(module.train_dataloader(), module.batches_per_epoch))
    keys = [key for batch in batches for key in batch["keys"]]
    assert (len(keys), len(set(keys))) == (40 - lost, 40 - lost)
    assert module.skipped >= 1
    assert main(["data", "validate", str(path)]) == 1
    reported = capsys.readouterr().out
    assert "Traceback" not in reported
    assert describe_dataset(path)
    assert not started.exists()
    for text in (caplog.text, reported):
        assert re.search(reason, text), text


def test_member_name_that_cannot_be_printed_is_reported_in_one_line(
    make_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_dataset(validation=0)
    shard = path / "train" / "00001.tar"
    write_members(shard, [(f"a\n\udcff{name}", content) for name, content in read_members(shard)[:1]])
    assert main(["data", "validate", str(path)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train/00001.tar")]
    assert line.startswith(r"train/00001.tar: sample a\n\udcff00000007: no image")


def test_latent_whose_sides_the_network_cannot_use_is_skipped(tmp_path: Path) -> None:
    with DatasetWriter(
        tmp_path / "d", kind="latent", name="d", source="test", autoencoder={"class": "test", "factor": 8}
    ) as writer:
        for number, width in enumerate((64, 40, 64)):
            latent = safetensors.numpy.save({"latent": np.zeros((16, 8, width // 8), dtype=np.float16)})
            writer.add("train", Sample(str(number), ("one",), width, 64, latent, LATENT_EXTENSION))
    assert len(load_index(tmp_path / "d", "train", "latent")) == 2
    assert "sides 40x64 are not multiples of 32 pixels" in validate_dataset(tmp_path / "d").problems[0]


def test_missing_shard_is_noticed_when_the_data_set_is_read(
    make_dataset: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = make_dataset()
    (path / "train" / "00001.tar").unlink()
    with caplog.at_level(logging.WARNING, logger="datamodules"):
        ShardDataModule(str(path), batch_size=4, workers=0).setup()
    assert "train: 33 readable samples, but dataset.json records 40" in caplog.text
    assert "train: 33 readable samples, but dataset.json records 40" in describe_dataset(path)


@pytest.mark.parametrize(
    "autoencoder", ["1", '{"factor": 0}', '{"factor": "8"}', '{"factor": 8, "channels": 1.5}', "[" * 50_000]
)
def test_invalid_description_of_an_autoencoder_is_a_problem(tmp_path: Path, autoencoder: str) -> None:
    (tmp_path / "dataset.json").write_text(
        '{"schema": 1, "kind": "latent", "name": "a", "source": "b", "samples": {"train": 1, "validation": 0}, '
        f'"fingerprint": "c", "autoencoder": {autoencoder}}}'
    )
    (problem,) = validate_dataset(tmp_path).problems
    assert "dataset.json: " in problem


def test_index_cache_with_flipped_bytes_is_built_again(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    index = load_index(path, "train", "image")
    cache = path / "train" / "index.safetensors"
    content = bytearray(cache.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start:] = b"\xff" * (len(content) - start)
    cache.write_bytes(content)
    assert load_index(path, "train", "image").digest == index.digest


def test_stored_image_of_each_format_of_the_schema_is_read(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for number, extension in ((0, "png"), (4, "webp")):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=extension, lossless=True)
        edit_member(path / "train" / "00000.tar", number, "png", file.getvalue())
    module = ShardDataModule(str(path), batch_size=1, workers=0, base_size=128)
    batches = {batch["keys"][0]: batch["images"][0] for batch in islice(module.train_dataloader(), 40)}
    for key in ("00000000", "00000004"):
        np.testing.assert_array_equal(batches[key].permute(1, 2, 0).numpy(), pixels)
