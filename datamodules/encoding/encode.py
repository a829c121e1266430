"""Encodes an image data set: finds the missing shards, has a team encode them, and completes the encoded data set."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.encoding.job import EncodeJob, Task
from datamodules.encoding.team import Team
from datamodules.encoding.unfinished import ShardRecord, UnfinishedDataset
from datamodules.shards.opening import LocalDataset
from datamodules.shards.replacement import hold_write_lock
from datamodules.shards.schema import SPLITS, DatasetInfo, is_complete, read_info, serialize_info
from datamodules.shards.tar_index import require_own_shards
from pocketdit.errors import RunError, UserError
from pocketdit.progress import ProgressLine

_MAX_LINES = 20


@dataclass(frozen=True)
class EncodeReport:
    """The result of encoding at one base size.

    Attributes:
        path: Folder of the encoded data set.
        base_size: Base size of the buckets.
        samples: Number of samples per split.
        records: The record of each shard, including shards from earlier attempts. Empty if the data set was already
            complete.
        skipped: Samples that the source's index already skips.
        images: Number of images that this attempt has encoded, summed over all base sizes.
        seconds: Duration of this attempt.
    """

    path: Path
    base_size: int
    samples: dict[str, int]
    records: list[ShardRecord]
    skipped: list[str] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = f"{self.samples['train']} train, {self.samples['validation']} validation samples at base size"
        if not self.records:
            return f"{self.path}: already complete, with {counts} {self.base_size}"
        count = sum(record.samples for record in self.records)
        skipped = [*self.skipped, *(line for record in self.records for line in record.skipped)]
        lines = [f"skipped {line}" for line in skipped[:_MAX_LINES]]
        if len(skipped) > _MAX_LINES:
            lines.append(f"skipped {len(skipped) - _MAX_LINES} more")
        sizes: Counter[str] = Counter()
        for record in self.records:
            sizes.update(latents=record.latent_bytes, text=record.text_bytes, source=record.source_bytes)
        kilobytes = {name: f"{size / count / 1e3:.1f} kB" for name, size in sizes.items()}
        quality = [value for record in self.records for value in record.psnr]
        return "\n".join(
            [
                *lines,
                f"{self.path}: {counts} {self.base_size}, {len(skipped)} skipped",
                f"stored per image: {kilobytes['latents']} of latents and {kilobytes['text']} of text embeddings "
                f"(source images: {kilobytes['source']})",
                f"reconstruction of {len(quality)} images: PSNR {sum(quality) / len(quality):.1f} dB on average, "
                f"{min(quality):.1f} dB at worst",
            ]
        )


def encode_dataset(job: EncodeJob, team: Team, *, overwrite: bool = False) -> list[EncodeReport]:
    """Encode a data set with a team, or continue an earlier attempt.

    Args:
        job: What to encode, and with which encoders.
        team: The processes that encode.
        overwrite: Replace complete data sets. They are kept until the new data sets are complete.

    Returns:
        A report for each base size. Data sets that earlier attempts completed are not encoded again.

    Raises:
        UserError: A folder already contains another complete data set, and ``overwrite`` is false.
        ConfigError: A folder contains an earlier attempt with different settings.
    """
    source = read_info(job.source)
    indexes = {split: LocalDataset(job.source).load_index(split, source) for split in SPLITS}
    unfinished: dict[int, UnfinishedDataset] = {}
    reports: dict[int, EncodeReport] = {}
    plan, start = team.describe(), time.perf_counter()
    with ExitStack() as locks:
        for size in job.base_sizes:
            dataset = UnfinishedDataset(job.folder(size))
            locks.enter_context(_writing(dataset.out))
            require_own_shards(dataset.out)
            if is_complete(dataset.out) and not overwrite:
                samples = _require_same(dataset.out, _info_of(source, _plan_of(plan, size)))
                reports[size] = EncodeReport(dataset.out, size, samples, [])
                continue
            dataset.open(_plan_of(plan, size))
            unfinished[size] = dataset
        tasks = pending_tasks(indexes, unfinished)
        rows = {
            (split, shard): int((index.shard == shard).sum())
            for split, index in indexes.items()
            for shard in set(index.shard.tolist())
        }
        images = sum(rows[task.split, task.shard] * len(task.base_sizes) for task in tasks)
        total = sum(rows.values()) * len(unfinished)
        with _progress(total, total - images) as line:
            team.encode(tasks, lambda done: line.advance(total - images + done))
        skipped = [str(entry) for index in indexes.values() for entry in index.skipped]
        for size, dataset in unfinished.items():
            records = dataset.finish(_info_of(source, _plan_of(plan, size)))
            samples = read_info(dataset.out).samples
            seconds = time.perf_counter() - start
            reports[size] = EncodeReport(dataset.out, size, samples, records, skipped, images, seconds)
        return [reports[size] for size in job.base_sizes]


def _require_same(out: Path, info: DatasetInfo) -> dict[str, int]:
    """Check that a complete data set is the one that the job would produce, and return its sample count per split.

    Raises:
        UserError: The data set was encoded from other images or with other encoders.
    """
    found = read_info(out)
    expected, stored = (json.loads(serialize_info(replace(each, samples={}, fingerprint=""))) for each in (info, found))
    if expected != stored:
        raise UserError(
            f"{out}: already contains a complete data set, encoded from other images or with other encoders; choose "
            "another folder, or pass --overwrite"
        )
    return found.samples


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Hold a folder's lock, and add the folder's path to errors of the operating system, such as a full disk."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with hold_write_lock(out):
            yield
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _progress(total: int, initial: int) -> Iterator[ProgressLine]:
    line = ProgressLine(
        "{desc} {n_fmt}/{total_fmt} {percentage:3.0f}% |{bar:20}| {rate_fmt} ETA {remaining}",
        desc="encode",
        unit=" images",
        total=total,
        initial=initial,
        smoothing=0.05,
    )
    try:
        yield line
    finally:
        line.close()


def pending_tasks(indexes: dict[Any, Any], unfinished: dict[int, UnfinishedDataset]) -> Sequence[Task]:
    """Return a task for each shard that has not been encoded at every base size."""
    tasks = []
    for split, index in indexes.items():
        for shard in range(len(index.shards)):
            name = index.plain_name(shard)
            missing = tuple(size for size, dataset in unfinished.items() if not dataset.is_finished(split, name))
            if missing:
                tasks.append(Task(split, shard, missing))
    return tasks


def _plan_of(plan: dict[str, Any], base_size: int) -> dict[str, Any]:
    return {**plan, "autoencoder": {**plan["autoencoder"], "base_size": base_size}}


def _info_of(source: DatasetInfo, plan: dict[str, Any]) -> DatasetInfo:
    """Return the contents of dataset.json without the number of samples and the fingerprint."""
    return DatasetInfo(
        kind="latent",
        name=source.name,
        source=source.source,
        samples={},
        fingerprint="",
        autoencoder=plan["autoencoder"],
        text_encoders=tuple(plan["text_encoders"].get("text", ())),
        teacher_text_encoders=tuple(plan["text_encoders"].get("teacher", ())),
        encoded_from=source.fingerprint,
        validation_is_train=source.validation_is_train,
        attribution=source.attribution,
    )
