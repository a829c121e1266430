"""The folder of a data set that is being encoded. A shard in it is either finished or absent.

A shard is finished when its record exists. The record is written after the shard. A job that was killed resumes with
the shards that have no record. The folder becomes the data set when all shards are finished.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.shards.index import write_index
from datamodules.shards.replacement import BUILDING, remove, replace_contents
from datamodules.shards.schema import INFO_FILE, PARTS, SPLITS, DatasetInfo, Split, serialize_info
from datamodules.shards.writer import write_tar
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import sha256_of, write_atomically

_PLAN = "plan.json"
_RECORDS = "records"


@dataclass(frozen=True)
class ShardRecord:
    """Statistics of a finished shard.

    Attributes:
        samples: Number of samples. A shard without samples is not stored.
        latent_bytes: Size of the latents.
        text_bytes: Size of the text embeddings.
        source_bytes: Size of the source images that were encoded.
        skipped: The samples that could not be encoded, each with the reason.
        psnr: PSNR of each reconstructed image in dB.
        sha256: Hash of the shard, or "" if the shard is not stored.
    """

    samples: int
    latent_bytes: int
    text_bytes: int
    source_bytes: int
    skipped: tuple[str, ...] = ()
    psnr: tuple[float, ...] = ()
    sha256: str = ""


class UnfinishedDataset:
    """A data set that is being encoded. The same samples always produce the same bytes.

    Args:
        out: Folder of the data set.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / BUILDING

    def open(self, plan: Mapping[str, Any]) -> None:
        """Continue an earlier job, or create the folder. The caller must hold the lock of ``out``.

        Args:
            plan: Everything that determines the contents of the shards, in a form that can be serialized as JSON.

        Raises:
            ConfigError: The earlier job had a different plan. The message names the first difference.
        """
        path = self.folder / _PLAN
        if not path.is_file():
            remove(self.folder)  # left behind by another command
            write_atomically(path, json.dumps(plan, indent=2))
        self._require_same(json.loads(path.read_bytes()), plan)
        for split in SPLITS:
            (self.folder / split).mkdir(exist_ok=True)
        self._remove_temporary_files()

    def _require_same(self, stored: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        for name, value in json.loads(json.dumps(plan)).items():
            if stored.get(name) != value:
                raise ConfigError(
                    f"{self.out}: contains an unfinished data set with a different {name}: "
                    f"{_difference(stored.get(name), value)}; repeat the command that started it, or remove "
                    f"{self.folder} to start over"
                )

    def is_finished(self, split: Split, shard: str) -> bool:
        """Return whether a shard is finished."""
        return self._record_path(split, shard).is_file()

    def write(
        self, split: Split, shard: str, samples: Iterable[tuple[str, dict[str, bytes]]], record: ShardRecord
    ) -> None:
        """Write a shard and then its record.

        Args:
            split: The split.
            shard: File name of the shard.
            samples: The key and the members of each sample.
            record: The statistics of the shard. This method adds the hash.
        """
        if record.samples:
            keyed = ({"__key__": key, **members} for key, members in samples)
            path = write_atomically(self.folder / split / shard, lambda temporary: write_tar(temporary, keyed))
            record = replace(record, sha256=sha256_of(path))
        write_atomically(self._record_path(split, shard), json.dumps(asdict(record)))

    def records(self, split: Split) -> dict[str, ShardRecord]:
        """Return the record of each finished shard, in the order of the shards."""
        paths = sorted((self.folder / _RECORDS / split).glob("*.json"))
        return {path.name.removesuffix(".json"): ShardRecord(**json.loads(path.read_bytes())) for path in paths}

    def finish(self, info: DatasetInfo) -> list[ShardRecord]:
        """Turn the folder into a complete data set.

        Args:
            info: The contents of dataset.json without the number of samples and the fingerprint.

        Returns:
            The records of all shards.

        Raises:
            RunError: None of the training samples could be encoded.
        """
        fingerprint = hashlib.sha256()
        samples: dict[str, int] = {}
        records: list[ShardRecord] = []
        for split in SPLITS:
            digest = hashlib.sha256()
            by_shard = self.records(split)
            write_index(self.folder / split, info.kind, {name: r.sha256 for name, r in by_shard.items() if r.samples})
            finished = list(by_shard.values())
            for record in finished:
                digest.update(bytes.fromhex(record.sha256))
            fingerprint.update(digest.digest())
            samples[split] = sum(record.samples for record in finished)
            records += finished
        if not samples["train"]:
            first = next((f"; the first problem is: {line}" for record in records for line in record.skipped), "")
            raise RunError(f"{self.out}: none of the training samples could be encoded{first}")
        self._remove_temporary_files()
        info = replace(info, samples=samples, fingerprint=fingerprint.hexdigest()[:16])
        write_atomically(self.folder / INFO_FILE, serialize_info(info))
        replace_contents(self.out, PARTS)
        return records

    def _record_path(self, split: Split, shard: str) -> Path:
        return self.folder / _RECORDS / split / f"{shard}.json"

    def _remove_temporary_files(self) -> None:
        for path in self.folder.rglob(".*.tmp"):
            remove(path)


def _difference(stored: Any, ours: Any) -> str:
    """Describe the first difference between two JSON values."""
    if isinstance(stored, dict) and isinstance(ours, dict):
        for name in dict.fromkeys([*stored, *ours]):
            if stored.get(name) != ours.get(name):
                return f"{name}: {_difference(stored.get(name), ours.get(name))}"
    if isinstance(stored, list) and isinstance(ours, list) and len(stored) == len(ours):
        number = next(i for i, (theirs, own) in enumerate(zip(stored, ours, strict=True)) if theirs != own)
        return f"{number}: {_difference(stored[number], ours[number])}"
    return f"it was {stored}, now {ours}"
