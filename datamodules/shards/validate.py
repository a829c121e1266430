"""Checks every sample of a data set and reports all problems."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tabulate import tabulate

from datamodules.shards.buckets import Bucket
from datamodules.shards.decode import decode_image, decode_tensors, read_latent
from datamodules.shards.opening import LocalDataset
from datamodules.shards.reader import ShardReader
from datamodules.shards.scan import BrokenShardError, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import SPLITS, DatasetInfo, Sample, SampleError, parse_sample, read_info, reason_of
from datamodules.shards.stored_text import require_text
from pocketdit.encoders.contract import TextEncoder
from pocketdit.encoders.coverage import CaptionCoverage, coverage_lines
from pocketdit.errors import UserError
from pocketdit.files import sha256_of
from pocketdit.names import one_line


@dataclass
class ValidationReport:
    """The result of a validation.

    Attributes:
        path: Folder of the data set.
        samples: Number of valid samples per split.
        problems: One line per problem.
        notes: One line for each text encoder that does not see all captions in full.
    """

    path: Path
    samples: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        table = tabulate(self.samples.items(), ["split", "valid samples"])
        notes = [f"note: {note}" for note in self.notes]
        conclusion = [] if self.problems else [f"{self.path}: no problems"]  # the command prints the number of problems
        return "\n".join([*map(one_line, self.problems), *notes, table, *conclusion])


def validate_dataset(path: Path, text_encoders: Sequence[TextEncoder] = ()) -> ValidationReport:
    """Validate a whole data set. Problems are returned in the report instead of raising an error.

    The validation checks the members, JSON fields, and captions of each sample, whether an image can be decoded and has
    the recorded size, and whether a latent has the right shape and is finite. It also checks for duplicate keys and
    IDs, IDs that occur in both splits, truncated or empty shards, and the number of samples in dataset.json. If there
    is no other problem, it checks the fingerprint of the shards. Additional members of samples are ignored. In a data
    set that is an index of tars, only the indexed samples are checked, and the tars must not have changed.

    Args:
        path: Folder of the data set.
        text_encoders: Text encoders. The notes include how many captions each of them does not see in full.
    """
    report = ValidationReport(path)
    try:
        info = read_info(path)
    except (UserError, OSError) as error:
        report.problems.append(str(error))
        return report
    ids: dict[str, set[str]] = {}
    coverages: dict[str, CaptionCoverage] = {}
    for split in SPLITS:
        coverages[split] = CaptionCoverage(text_encoders)
        if info.tars is None:
            ids[split] = _check_split(path / split, info, report, coverages[split])
        else:
            ids[split] = _check_indexed_split(path, split, info, report, coverages[split])
        valid, recorded = report.samples[split], info.samples[split]
        if valid != recorded:
            report.problems.append(f"{split}: {valid} valid samples, but dataset.json records {recorded}")
    report.notes = coverage_lines(coverages, complete=True)
    if not report.samples["train"]:
        report.problems.append("train: no usable sample")
    if not info.validation_is_train:
        shared = sorted(ids["train"] & ids["validation"])
        report.problems += [f"validation: id {name} also occurs in train" for name in shared]
    if info.tars is None and not report.problems and compute_fingerprint(path) != info.fingerprint:
        report.problems.append("the fingerprint of the shards differs from the one in dataset.json")
    return report


def compute_fingerprint(path: Path) -> str:
    """Compute the fingerprint that the writer records.

    The fingerprint is a hash of the splits' hashes. A split's hash is a hash of its shards' hashes.
    """
    fingerprint = hashlib.sha256()
    for split in SPLITS:
        digest = hashlib.sha256()
        for shard in sorted((path / split).glob("*.tar")):
            digest.update(bytes.fromhex(sha256_of(shard)))
        fingerprint.update(digest.digest())
    return fingerprint.hexdigest()[:16]


def _check_split(folder: Path, info: DatasetInfo, report: ValidationReport, coverage: CaptionCoverage) -> set[str]:
    """Add a split's problems and its number of valid samples to the report, count its captions, and return the IDs."""
    keys: Counter[str] = Counter()
    location_of: dict[str, str] = {}
    for path in sorted(folder.glob("*.tar")):
        shard = f"{folder.name}/{path.name}"
        is_empty = True
        for entry in _scan_samples(path, info):
            is_empty = False
            if isinstance(entry, str):
                report.problems.append(f"{shard}: {entry}")
                continue
            key, sample = entry
            coverage.add(sample.captions)
            location = f"{shard}: sample {key}"
            problems = _check_payload(sample, info)
            keys[key] += 1
            if keys[key] > 1:
                problems.append("an earlier sample of the split has the same key")
            if sample.id in location_of:
                problems.append(f"id {sample.id} is also the id of {location_of[sample.id]}")
            location_of.setdefault(sample.id, location)
            report.problems += [f"{location}: {problem}" for problem in problems]
            report.samples[folder.name] += not problems
        if is_empty:
            report.problems.append(f"{shard}: contains no sample")
    return set(location_of)


def _check_indexed_split(
    path: Path, split: str, info: DatasetInfo, report: ValidationReport, coverage: CaptionCoverage
) -> set[str]:
    """Check a split like ``_check_split``, but for an index of tars, in which only the indexed samples count."""
    ids: set[str] = set()
    try:
        index = LocalDataset(path).load_index(split, info)
    except (UserError, OSError) as error:
        report.problems.append(str(error))
        return ids
    reader = ShardReader(index)
    for row in range(len(index)):
        key = f"row {row}"
        try:
            raw = reader.read_members(row)
            key = f"sample {raw.key}"
            sample = reader.parse(row, raw)
            problems = _check_payload(sample, info)
            coverage.add(sample.captions)
            ids.add(sample.id)
        except Exception as error:  # a broken sample can raise any exception, but must not end the validation
            problems = [reason_of(error)]
        report.problems += [f"{index.shard_path(row)}: {key}: {problem}" for problem in problems]
        report.samples[split] += not problems
    reader.close()
    return ids


def _scan_samples(path: Path, info: DatasetInfo) -> Iterator[tuple[str, Sample] | str]:
    """Yield each sample with its key, or a description of a problem with a sample or with the rest of the shard."""
    try:
        with open_shard(path) as file:
            for group in scan_shard(file):
                try:
                    yield group.key, _parse_group(file, group, info)
                except Exception as error:  # a broken sample can raise any exception, but must not end the validation
                    yield f"sample {group.key}: {reason_of(error)}"
    except BrokenShardError as error:
        yield f"byte {error.offset}: {error.reason}"
    except OSError as error:
        yield f"cannot be read ({error.strerror})"


def _parse_group(file: BinaryIO, group: MemberGroup, info: DatasetInfo) -> Sample:
    if problem := group.problem():
        raise SampleError(problem)
    contents = {}
    for member in group.members:
        file.seek(member.offset)
        contents[member.extension] = file.read(member.size)
    return parse_sample(contents, info.kind)


def _check_payload(sample: Sample, info: DatasetInfo) -> list[str]:
    try:
        if info.kind == "image":
            decode_image(sample, Bucket(sample.width, sample.height))
        else:
            assert info.autoencoder is not None
            tensors = decode_tensors(sample)
            read_latent(tensors, sample, info.autoencoder)
            require_text(tensors, info.text_layouts, len(sample.captions))
    except Exception as error:
        return [reason_of(error)]
    return []
