"""Tests that encoded data sets contain the encoders' outputs, and that their batches equal those computed by a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.encoding.images import plan_batches
from datamodules.shards.index import INDEX_FILE, build_index, read_index
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import SPLITS, read_info
from datamodules.shards.validate import validate_dataset
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.inputs import Encoders
from pocketdit.files import sha256_of
from pocketdit.running.assemble import build_encoders

Images = Callable[..., Path]
Write = Callable[..., Path]


def encode(experiment: Path, source: Path, out: Path, *options: str) -> None:
    assert main(["data", "encode", str(experiment), str(source), str(out), *options]) == 0


def module_of(path: Path, **options: Any) -> ShardDataModule:
    module = ShardDataModule(str(path), batch_size=4, base_size=64, workers=0, seed=3, **options)
    module.setup()
    return module


def batches_of(path: Path, count: int = 12, **options: Any) -> list[dict[str, Any]]:
    loader = iter(module_of(path, **options).train_dataloader())
    return [next(loader) for _ in range(count)]


def encoders_of(experiment: Path) -> Encoders:
    return build_encoders(load(experiment, [], Experiment).config)


@pytest.mark.parametrize("kind", ["qwen_image", "flux"])
def test_batches_equal_those_that_the_encoders_compute(
    images: Images, experiment: Write, tmp_path: Path, kind: str
) -> None:
    """Samples, captions and padding are the same. Tensors are equal up to rounding, which depends on the batch size."""
    source, file, out = images(), experiment(kind), tmp_path / "out"
    encode(file, source, out, "--dtype", "float32", "--batch-size", "3")
    encoders = encoders_of(file)
    for ours, theirs in zip(batches_of(out), batches_of(source), strict=True):
        assert ours["captions"] == theirs["captions"]
        assert ours["ids"].tolist() == theirs["ids"].tolist()
        assert ours["keys"] == theirs["keys"]
        torch.testing.assert_close(encoders.latents(ours), encoders.latents(theirs), atol=1e-4, rtol=1e-4)
        for stored, computed in zip(encoders.text_of(ours), encoders.text_of(theirs), strict=True):
            assert torch.equal(stored.mask, computed.mask)
            torch.testing.assert_close(stored.embeddings, computed.embeddings, atol=1e-5, rtol=1e-5)


def test_stored_numbers_are_rounded_to_bf16_once(images: Images, experiment: Write, tmp_path: Path) -> None:
    source, file = images(), experiment()
    for dtype in ("bfloat16", "float32"):
        encode(file, source, tmp_path / dtype, "--dtype", dtype)
    for rounded, exact in zip(batches_of(tmp_path / "bfloat16"), batches_of(tmp_path / "float32"), strict=True):
        assert torch.equal(rounded["latents"], exact["latents"].bfloat16().float())
        for ours, theirs in zip(rounded["text"], exact["text"], strict=True):
            assert ours.embeddings.dtype == torch.bfloat16
            assert torch.equal(ours.embeddings, theirs.embeddings.bfloat16())
            assert torch.equal(ours.mask, theirs.mask)


def test_every_caption_is_stored_without_padding(images: Images, experiment: Write, tmp_path: Path) -> None:
    from datamodules.shards.decode import decode_tensors
    from datamodules.shards.reader import ShardReader

    source, file, out = images(), experiment(), tmp_path / "out"
    encode(file, source, out)
    reader, encoders = ShardReader(module_of(out).split("train")), encoders_of(file)
    for row in range(6):
        sample = reader.read_sample(row)
        tensors = decode_tensors(sample)
        lengths = [tokens.mask.sum(1).tolist() for tokens in encoders.tokens(sample.captions)]
        expected = {f"text.{i}.{c}": (lengths[i][c], 16) for i in range(2) for c in range(len(sample.captions))}
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items() if name != "latent"} == expected
        assert (sample.annotations, sample.seed) == ({"number": row}, row)


def test_each_base_size_has_a_data_set(images: Images, experiment: Write, tmp_path: Path) -> None:
    source, file = images(), experiment()
    encode(file, source, tmp_path / "both", "--base-size", "64,96")
    encode(file, source, tmp_path / "one", "--base-size", "96")
    for size in (64, 96):
        info = read_info(tmp_path / "both" / str(size))
        assert (info.autoencoder or {})["base_size"] == size
        assert info.encoded_from == read_info(source).fingerprint
        assert validate_dataset(tmp_path / "both" / str(size)).problems == []
    assert read_info(tmp_path / "both" / "96") == read_info(tmp_path / "one")


def test_batches_of_a_shard_have_one_bucket_and_keep_the_order(images: Images) -> None:
    from datamodules.shards.reader import ShardReader

    reader = ShardReader(module_of(images(train=20, per_shard=20)).split("train"))
    batches = plan_batches([reader.read_sample(row) for row in range(20)], 64, "aspect", 4)
    assert sorted(number for batch in batches for number in batch.numbers) == list(range(20))
    assert [(len(batch.numbers), batch.bucket) for batch in batches] == [
        (4, (64, 64)),
        (4, (96, 32)),
        (4, (32, 96)),
        (4, (64, 64)),
        (1, (32, 96)),
        (2, (64, 64)),
        (1, (96, 32)),
    ]
    assert all(batch.numbers == sorted(batch.numbers) for batch in batches)


def test_report_states_size_and_quality(
    images: Images, experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = images(), tmp_path / "out"
    encode(experiment(), source, out, "--latents-only", "--dtype", "float32")
    report = capsys.readouterr().out
    # Buckets of base size 64 have 3072 or 4096 pixels, so latents have 48 or 64 positions with 16 float32 numbers each.
    assert "20 train, 4 validation samples at base size 64, 0 skipped" in report
    assert "stored per image: 3.6 kB of latents and 0.0 kB of text embeddings" in report
    assert "reconstruction of" in report
    assert read_info(out).text_encoders == ()


def test_index_lies_beside_the_shards(images: Images, experiment: Write, tmp_path: Path) -> None:
    """With the stored index, a run on remote data does not have to read all shards before it starts."""
    out = tmp_path / "out"
    encode(experiment("flux"), images(), out)
    for split in SPLITS:
        found = read_index(out / split / INDEX_FILE, "latent")
        assert found is not None
        index, shards = found
        assert {shard.name: shard.sha256 for shard in shards} == {
            path.name: sha256_of(path) for path in (out / split).glob("*.tar")
        }
        built = build_index(out / split, sorted((out / split).glob("*.tar")), "latent")
        assert index.digest == built.digest
