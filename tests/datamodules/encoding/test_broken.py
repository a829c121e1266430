"""Tests that broken samples of an encoded data set are skipped and counted, and never end a run."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from datamodules.shards.decode import decode_tensors
from datamodules.shards.module import ShardDataModule
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import INFO_FILE, Sample, read_info
from datamodules.shards.stats import describe_dataset
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from pocketdit.commands.main import main
from pocketdit.errors import UserError
from tests.conftest import PRETRAIN

Tensors = dict[str, torch.Tensor]
Images = Callable[..., Path]


def _with(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], bytes]:
    def damage(tensors: Tensors) -> bytes:
        content: bytes = safetensors.torch.save({**tensors, name: change(tensors[name]).contiguous()})
        return content

    return damage


def _without(name: str) -> Callable[[Tensors], bytes]:
    return lambda tensors: safetensors.torch.save({key: value for key, value in tensors.items() if key != name})


DAMAGES: dict[str, tuple[Callable[[Tensors], bytes], str]] = {
    "truncated": (lambda tensors: safetensors.torch.save(tensors)[:-7], "latent cannot be decoded"),
    "empty": (lambda tensors: b"", "latent cannot be decoded"),
    "no latent": (_without("latent"), 'does not contain the tensor "latent"'),
    "other latent": (_with("latent", lambda x: x[:, :-1]), "latent has shape"),
    "infinite latent": (_with("latent", lambda x: x / 0), "latent is not finite"),
    "missing encoder": (_without("text.1.0"), 'does not contain the tensor "text.1.0"'),
    "other width": (_with("text.0.0", lambda x: x[:, :-1]), "text.0.0 has shape"),
    "too long": (
        _with("text.0.0", lambda x: x.repeat(90, 1)),
        r"text.0.0 has shape \(\d+, 128\), expected \(at most 80",
    ),
    "not a matrix": (_with("text.1.0", lambda x: x[None]), "text.1.0 has shape"),
    "NaN": (_with("text.1.0", lambda x: x * torch.nan), "text.1.0 is not finite"),
    "integers": (_with("text.0.0", lambda x: x.int()), "text.0.0 has type torch.int32"),
}


@pytest.fixture(name="encoded")
def fixture_encoded(images: Images, tmp_path: Path) -> Path:
    """An encoded data set with the built-in encoders."""
    arguments = [str(images(train=12)), str(tmp_path / "encoded"), "--base-size", "64"]
    assert main(["data", "encode", str(PRETRAIN), *arguments]) == 0
    return tmp_path / "encoded"


def rewrite(encoded: Path, out: Path, damage: Callable[[Tensors], bytes], rows: set[int]) -> None:
    """Copy an encoded data set, and damage the training samples in ``rows``."""

    def samples(split: str) -> Iterator[Sample]:
        index = module_of(encoded).split(split)
        reader = ShardReader(index)
        for row in range(len(index)):
            sample = reader.read_sample(row)
            is_damaged = split == "train" and row in rows
            yield replace(sample, payload=damage(decode_tensors(sample))) if is_damaged else sample

    info = read_info(encoded)
    with DatasetWriter(out, kind="latent", name="x", source="x", autoencoder=info.autoencoder) as writer:
        for split in ("train", "validation"):
            for sample in samples(split):
                writer.add(split, sample)
    values = json.loads((out / INFO_FILE).read_text()) | {"text_encoders": list(info.text_encoders)}
    (out / INFO_FILE).write_text(json.dumps(values))


def module_of(path: Path) -> ShardDataModule:
    module = ShardDataModule(str(path), batch_size=4, base_size=64, workers=0, caption="short")
    module.setup()
    return module


@pytest.mark.parametrize("name", DAMAGES)
def test_broken_payload_is_skipped_and_reported(encoded: Path, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    out = tmp_path / "broken"
    rewrite(encoded, out, damage, {2, 5})
    module = module_of(out)
    loader = iter(module.train_dataloader())
    batches = [next(loader) for _ in range(module.batches_per_epoch)]
    assert {row for batch in batches for row in batch["ids"].tolist()} == set(range(12)) - {2, 5}
    skipped = [line for batch in batches for line in batch["skipped"]]
    assert len(skipped) == 2 == module.skipped
    report = validate_dataset(out)
    assert report.samples == {"train": 10, "validation": 4}
    damaged = [line for line in report.problems if "sample" in line and "valid samples" not in line]
    assert len(damaged) == 2
    for line in (*skipped, *damaged):
        assert re.search(message, line), line


def test_intact_data_set_has_no_problem_and_is_described(encoded: Path) -> None:
    assert validate_dataset(encoded).problems == []
    description = describe_dataset(encoded)
    for line in ("latents          DCTAutoencoder  bfloat16", "text embeddings  PhraseEncoder   bfloat16"):
        assert line in description


@pytest.mark.parametrize(
    "value", ["text", [1], [{}], [{"width": 0, "max_tokens": 1, "padded_to": None}], [{"width": 8, "max_tokens": "x"}]]
)
def test_damaged_description_is_refused_by_name(encoded: Path, value: Any) -> None:
    path = encoded / INFO_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_encoders": value}))
    with pytest.raises(UserError, match=str(path)):
        read_info(encoded)


def test_images_that_cannot_be_encoded_are_counted(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = images(train=12)
    index = module_of(source).split("train")
    row = 3
    path = source / "train" / index.shards[int(index.shard[row])]
    content = bytearray(path.read_bytes())
    start = int(index.offset[row])
    position = content.index(b"IDAT", start)
    content[position + 8 : position + 40] = bytes(32)
    path.write_bytes(content)
    out = tmp_path / "out"
    assert main(["data", "encode", str(PRETRAIN), str(source), str(out), "--base-size", "64"]) == 0
    report = capsys.readouterr().out
    assert "11 train, 4 validation samples at base size 64, 1 skipped" in report
    assert "skipped train/00000.tar: sample 00000003: image cannot be decoded" in report
    assert validate_dataset(out).problems == []
