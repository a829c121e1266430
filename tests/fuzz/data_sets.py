"""Damages sharded data sets. A data set must be refused, or each sample must be loaded or counted as skipped."""

import logging
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import Sample
from datamodules.shards.writer import DatasetWriter
from pocketdit.errors import UserError
from tests.fuzz.command import run_command
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.images import fake_ghostscript, image_bytes
from tests.fuzz.shard_damage import DAMAGES, SAMPLES, SHARD_SIZE


def write_dataset(folder: Path) -> Path:
    """Write a data set of small images in two sizes."""
    out = folder / "data"
    with DatasetWriter(out, kind="image", name="fuzz", source="tests", samples_per_shard=SHARD_SIZE) as writer:
        for number in range(SAMPLES):
            writer.add("train", _sample("train", number))
        for number in range(3):
            writer.add("validation", _sample("validation", number))
    return out


@cache
def _sample(split: str, number: int) -> Sample:
    size = (64, 64) if number % 2 else (64, 32)
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Sample(f"{split}-{number}", (f"image {number}",), *size, image_bytes("PNG", size, pixels), "png")


def _run(given: Input) -> str:
    path = write_dataset(given.folder)
    started = fake_ghostscript(given.folder)
    before = _contents(path)
    DAMAGES[given.kind](given.numbers, path)
    has_changed = _contents(path) != before
    loaded = _load(path)
    validated = run_command("data", "validate", path)
    assert validated.status or not has_changed, "\n".join(validated.lines)
    described = run_command("data", "stats", path)
    assert not started.exists(), "Ghostscript was started"
    return f"{loaded}; validate: {validated.lines[-1]}; stats: exit status {described.status}"


def _contents(path: Path) -> dict[str, bytes | None]:
    return {
        str(shard.relative_to(path)): shard.read_bytes() if shard.is_file() else None for shard in path.glob("*/*.tar")
    }


def _load(path: Path) -> str:
    """Load an epoch, and check that every sample is yielded or accounted for."""
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("datamodules").addHandler(handler)
    module = ShardDataModule(str(path), batch_size=4, base_size=64, workers=0)
    try:
        batches = list(islice(module.train_dataloader(), module.batches_per_epoch))
        loaded = len({key for batch in batches for key in batch["keys"]})
        assert len(list(module.val_dataloader())) >= 0
    except UserError as error:
        warnings.append(str(error))
        loaded = 0
    assert all("\n" not in line for line in warnings), warnings
    assert loaded >= SAMPLES or warnings, f"only {loaded} of {SAMPLES} samples were loaded, without a warning"
    return f"{'loaded' if loaded else 'refused'}: {loaded} of {SAMPLES} samples, {module.skipped} skipped"


DATA_SETS = Fuzzer("data_sets", tuple(DAMAGES), _run)
