"""Tests that the loader skips and counts the samples lost in broken shards, and that validation reports the damage."""

import logging
import re
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from datamodules.shards.module import ShardDataModule
from datamodules.shards.validate import validate_dataset
from pocketdit.errors import RunError, UserError
from tests.fuzz.tar_files import content_offset, edit_json, edit_member, header_offset, read_members, write_members


def _end(shard: Path) -> int:
    """Return the offset at which the last member and its padding end."""
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-1]
        return last.offset_data + -(-last.size // 512) * 512


def _cut(shard: Path, length: int) -> None:
    shard.write_bytes(shard.read_bytes()[:length])


def _damage_header(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    offset = header_offset(shard, "00000009.json")
    content[offset : offset + 512] = b"\xa5" * 512
    shard.write_bytes(content)


# Kinds of damage to 00001.tar (samples 7 to 13), each with a function, the lost rows, and the reported reason.
KINDS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "truncated inside an image": (
        lambda s: _cut(s, content_offset(s, "00000010.png") + 20),
        4,
        r"byte \d+: truncated inside 00000010.png",
    ),
    "truncated between members": (
        lambda s: _cut(s, header_offset(s, "00000010.png")),
        4,
        r"sample 00000010: no image \(.*\) among the members \['json'\]",
    ),
    "truncated inside a header": (
        lambda s: _cut(s, header_offset(s, "00000010.json") + 100),
        4,
        r"byte \d+: truncated: the end-of-archive block is missing",
    ),
    "end-of-archive block missing": (
        lambda s: _cut(s, _end(s)),
        0,
        r"byte \d+: truncated: the end-of-archive block is missing",
    ),
    "damaged header": (_damage_header, 5, r"byte \d+: damaged: not a tar header"),
    "empty file": (lambda s: s.write_bytes(b""), 7, "byte 0: the file is empty"),
    "not a tar file": (
        lambda s: s.write_bytes(b"<html>not found</html>" * 99),
        7,
        "byte 0: cannot be read as tar",
    ),
    "tar without samples": (lambda s: write_members(s, []), 7, "contains no sample"),
    "image of garbage": (
        lambda s: edit_member(s, 9, "png", b"not an image"),
        1,
        "sample 00000009: image cannot be decoded",
    ),
    "image cut short": (
        lambda s: edit_member(s, 9, "png", dict(read_members(s))["00000009.png"][:200]),
        1,
        "sample 00000009: image cannot be decoded",
    ),
    "image missing": (lambda s: edit_member(s, 9, "png", None), 1, "sample 00000009: no image"),
    "json missing": (lambda s: edit_member(s, 9, "json", None), 1, "sample 00000009: the json member is missing"),
    "json of garbage": (lambda s: edit_member(s, 9, "json", b"{"), 1, "sample 00000009: json cannot be parsed"),
    "json in another encoding": (
        lambda s: edit_member(s, 9, "json", b'{"id": "\xff"}'),
        1,
        "sample 00000009: json cannot be parsed",
    ),
    "caption missing": (
        lambda s: edit_json(s, 9, captions=[]),
        1,
        'sample 00000009: json: "captions" is not a list',
    ),
    "caption empty": (
        lambda s: edit_json(s, 9, captions=["a", " "]),
        1,
        'sample 00000009: json: "captions" contains an empty caption',
    ),
    "size wrong": (
        lambda s: edit_json(s, 9, width=64),
        1,
        r"sample 00000009: image is 160x96, but the metadata says 64x96",
    ),
    "member twice": (
        lambda s: write_members(s, [m for m in read_members(s) for _ in range(1 + (m[0] == "00000009.json"))]),
        1,
        r"sample 00000009: has more than one \.json member",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_skipped_counted_and_reported(
    make_dataset: Callable[..., Path], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    damage, lost, reason = KINDS[kind]
    path = make_dataset()
    damage(path / "train" / "00001.tar")

    module = ShardDataModule(str(path), batch_size=4, workers=1)
    with caplog.at_level(logging.WARNING):
        batches = list(islice(module.train_dataloader(), 2 * module.batches_per_epoch))
    rows = [row for batch in batches for row in batch["keys"]]
    assert len(rows) == 2 * (40 - lost)
    assert len(set(rows)) == 40 - lost
    assert module.skipped >= 1
    messages = [record.getMessage() for record in caplog.records if "skipped train/00001.tar" in record.message]
    assert len(messages) == module.skipped
    report = validate_dataset(path)
    assert report.samples["train"] == 40 - lost
    reported = "\n".join(line for line in report.problems if line.startswith("train/00001.tar: "))
    for text in ("\n".join(messages), reported):
        assert re.search(reason, text), text


def test_batch_with_only_broken_samples_is_replaced_from_its_bucket(
    make_dataset: Callable[..., Path],
) -> None:
    path = make_dataset(train=12, samples_per_shard=12)
    broken = [0, 4]  # two of the three samples of size 128x128, which are 0, 4, and 8
    for key in broken:
        edit_member(path / "train" / "00000.tar", key, "png", b"not an image")
    module = ShardDataModule(str(path), batch_size=2, workers=0)
    batches = list(islice(module.train_dataloader(), 3 * module.batches_per_epoch))
    assert all(len(batch["ids"]) for batch in batches)
    for batch in batches:
        assert {"128x128", "160x96", "96x160"} >= {"{3}x{2}".format(*batch["images"].shape)}
        if batch["images"].shape[2:] == (128, 128):
            assert batch["ids"].tolist() == [8]
    assert module.skipped == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_bucket_with_only_broken_samples_is_replaced_from_other_buckets(
    make_dataset: Callable[..., Path], workers: int
) -> None:
    path = make_dataset(train=12, samples_per_shard=12)
    for key in (0, 4, 8):  # all three samples of size 128x128
        edit_member(path / "train" / "00000.tar", key, "png", b"not an image")
    module = ShardDataModule(str(path), batch_size=2, workers=workers)
    batches = list(islice(module.train_dataloader(), module.batches_per_epoch))
    assert {key for batch in batches for key in batch["keys"]} == {f"{i:08d}" for i in range(12) if i not in (0, 4, 8)}
    assert module.skipped == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_data_set_with_only_broken_samples_ends_the_run_with_one_line(
    make_dataset: Callable[..., Path], workers: int
) -> None:
    path = make_dataset(train=12, samples_per_shard=12)
    for key in range(12):
        edit_member(path / "train" / "00000.tar", key, "png", b"not an image")
    module = ShardDataModule(str(path), batch_size=2, workers=workers)
    with pytest.raises(RunError, match=r"all 12 samples are broken") as error:
        list(islice(module.train_dataloader(), module.batches_per_epoch))
    assert "\n" not in str(error.value)


def test_shard_that_is_deleted_during_training_is_skipped(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    module = ShardDataModule(str(path), batch_size=4, workers=0)
    loader = module.train_dataloader()
    (path / "train" / "00001.tar").unlink()
    batches = list(islice(loader, module.batches_per_epoch))
    assert sum(len(batch["ids"]) for batch in batches) >= 33
    assert module.skipped == 7


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "dataset.json").unlink(), "no dataset.json"),
        (lambda p: (p / "dataset.json").write_text("{"), "dataset.json: invalid"),
        (
            lambda p: (p / "dataset.json").write_text('{"schema": 9}'),
            "schema 9 is not supported, expected 1; update PocketDiT",
        ),
        (lambda p: (p / "dataset.json").write_text('{"schema": 0}'), "expected 1; build the data set again"),
        (lambda p: (p / "dataset.json").write_text('{"schema": 1}'), "KeyError: 'kind'"),
        (lambda p: p.rename(p.parent / "elsewhere"), "no such data set"),
        (lambda p: [s.write_bytes(b"") for s in (p / "train").glob("*.tar")], "no readable training sample"),
    ],
)
def test_unusable_data_set_is_rejected_with_one_line(
    make_dataset: Callable[..., Path], damage: Callable[[Path], object], message: str
) -> None:
    path = make_dataset()
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        ShardDataModule(str(path), batch_size=4, workers=0).setup()
    assert "\n" not in str(error.value)
    assert validate_dataset(path).problems
