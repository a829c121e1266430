"""Reads every sample of a data set and says what is wrong where."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from datamodules.shards.buckets import SIDE_MULTIPLE, Bucket
from datamodules.shards.decode import decode_image, decode_latent
from datamodules.shards.scan import BrokenShardError, MemberGroup, scan_shard
from datamodules.shards.schema import SPLITS, DatasetInfo, Sample, SampleError, parse_sample, read_info
from pocketdit.errors import UserError
from pocketdit.files import sha256_of


@dataclass
class ValidationReport:
    """``problems`` has a line for each; ``samples`` counts the good ones of each split."""

    path: Path
    samples: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        good = ", ".join(f"{count} good {split}" for split, count in self.samples.items())
        count = len(self.problems)
        problems = "no problem" if not count else "1 problem" if count == 1 else f"{count} problems"
        return "\n".join([*self.problems, f"{self.path}: {good} samples, {problems}"])


def validate_dataset(path: Path) -> ValidationReport:
    """Checks the whole data set; never raises for what is wrong in it.

    Per sample: members, JSON fields, captions, that the image decodes and has its size, that the latent has
    its shape and is finite. Over all: duplicate keys and ids, ids in both splits, tars that are cut off or
    hold nothing, the counts of dataset.json, and, where all else is well, the shards' fingerprint. Other members
    beside a sample's own are allowed.
    """
    report = ValidationReport(path)
    try:
        info = read_info(path)
    except UserError as error:
        report.problems.append(str(error))
        return report
    ids: dict[str, set[str]] = {}
    for split in SPLITS:
        ids[split] = _check_split(path / split, info, report)
        found, stated = report.samples[split], info.samples[split]
        if found != stated:
            report.problems.append(f"{split}: {found} good samples, dataset.json says {stated}")
    if not report.samples["train"]:
        report.problems.append("train: no usable sample")
    if not info.validation_is_train:
        shared = sorted(ids["train"] & ids["validation"])
        report.problems += [f"validation: id {name} is in train too" for name in shared]
    if not report.problems and compute_fingerprint(path) != info.fingerprint:
        report.problems.append("the shards are not byte for byte what dataset.json was written for")
    return report


def compute_fingerprint(path: Path) -> str:
    """As the writer takes it: of the digests of the splits, each of the digests of its shards in order."""
    whole = hashlib.sha256()
    for split in SPLITS:
        digest = hashlib.sha256()
        for shard in sorted((path / split).glob("*.tar")):
            digest.update(bytes.fromhex(sha256_of(shard)))
        whole.update(digest.digest())
    return whole.hexdigest()[:16]


def _check_split(folder: Path, info: DatasetInfo, report: ValidationReport) -> set[str]:
    keys: Counter[str] = Counter()
    places: dict[str, str] = {}
    for path in sorted(folder.glob("*.tar")):
        place = f"{folder.name}/{path.name}"
        seen = 0
        for entry in _samples(path, info):
            seen += 1
            if isinstance(entry, str):
                report.problems.append(f"{place}: {entry}")
                continue
            key, sample = entry
            where = f"{place}: sample {key}"
            problems = _problems(sample, info)
            keys[key] += 1
            if keys[key] > 1:
                problems.append("its key is in the split before")
            if sample.id in places:
                problems.append(f"id {sample.id} is that of {places[sample.id]} too")
            places.setdefault(sample.id, where)
            report.problems += [f"{where}: {problem}" for problem in problems]
            report.samples[folder.name] += not problems
        if not seen:
            report.problems.append(f"{place}: holds no sample")
    return set(places)


def _samples(path: Path, info: DatasetInfo) -> Iterator[tuple[str, Sample] | str]:
    """Each sample with its key, or what is wrong with it or with the shard from there on."""
    try:
        with path.open("rb") as file:
            for group in scan_shard(file):
                try:
                    yield group.key, _parsed(file, group, info)
                except SampleError as error:
                    yield f"sample {group.key}: {error}"
    except BrokenShardError as error:
        yield f"byte {error.offset}: {error.reason}"
    except OSError as error:
        yield f"cannot be read ({error.strerror})"


def _parsed(file: BinaryIO, group: MemberGroup, info: DatasetInfo) -> Sample:
    if duplicates := group.duplicates():
        raise SampleError(f"member {duplicates[0]} appears twice")
    contents = {}
    for member in group.members:
        file.seek(member.offset)
        contents[member.extension] = file.read(member.size)
    return parse_sample(contents, info.kind)


def _problems(sample: Sample, info: DatasetInfo) -> list[str]:
    try:
        if info.kind == "image":
            decode_image(sample, Bucket(sample.width, sample.height))
        else:
            if sample.width % SIDE_MULTIPLE or sample.height % SIDE_MULTIPLE:
                raise SampleError(f"size {sample.width}x{sample.height} is not in multiples of {SIDE_MULTIPLE} pixels")
            decode_latent(sample, info.autoencoder)
    except SampleError as error:
        return [str(error)]
    return []
