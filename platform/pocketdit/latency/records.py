"""Records of predicted and measured latencies, stored in the bundle.

``latency.jsonl`` contains one JSON object per line, newest last. Predictions and measurements are always printed in
separate tables.
"""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from tabulate import tabulate

from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import LATENCY
from pocketdit.files import sha256_of, write_atomically

RecordKind = Literal["predicted", "measured"]


@dataclass(frozen=True)
class LatencyRecord:
    """The latency of one evaluation of a package on a device.

    Attributes:
        what: Name of the package in its bundle, such as transformer.
        sha256: Hash of the package's content (see ``content_hash``).
        kind: Whether the latency was predicted or measured.
        device: Name from ``devices.DEVICES``, or the name that the device reports.
        system: Operating system and version. Empty for predictions.
        units: Compute units: a Core ML option, or for LiteRT the processor and the number of threads.
        batch: Batch size.
        size: Image size HEIGHTxWIDTH in pixels.
        milliseconds: The prediction, or the median of the measurements.
        low: Lower end of the spread.
        high: Upper end of the spread.
        spread: Definition of ``low`` and ``high``.
        runs: Number of timed evaluations, which is 0 for predictions.
        date: Time of the prediction or measurement, as ISO 8601 in UTC.
        note: Additional notes.
    """

    what: str
    sha256: str
    kind: RecordKind
    device: str
    system: str
    units: str
    batch: int
    size: str
    milliseconds: float
    low: float
    high: float
    spread: str
    runs: int
    date: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("predicted", "measured"):
            raise ValueError(f"kind={self.kind!r}: must be predicted or measured")
        if (self.kind == "measured") != (self.runs > 0):
            raise ValueError(f"runs={self.runs}: must be at least 1 for a measurement and 0 for a prediction")


def measurement(
    samples: Sequence[float], package: str, sha256: str, device: str, system: str, units: str, batch: int, size: str,
    note: str = "",
) -> LatencyRecord:  # fmt: skip
    """Create a record from ``samples``, the latency of each timed evaluation in milliseconds."""
    low, middle, high = (float(value) for value in np.percentile(samples, [5, 50, 95]))
    return LatencyRecord(package, sha256, "measured", device, system, units, batch, size, middle, low, high,
                         "5th to 95th percentile", len(samples), timestamp(), note)  # fmt: skip


def timestamp() -> str:
    """Return the current time as ISO 8601 in UTC, without fractions of a second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def system_name() -> str:
    """Return the operating system of this machine and its version."""
    if version := platform.mac_ver()[0]:
        return f"macOS {version}"
    return f"{platform.system()} {platform.release()}"


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    text = "\n".join(f"{file.relative_to(path).as_posix()} {sha256_of(file)}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()


def add_record(folder: Path, record: LatencyRecord) -> Path:
    """Add a record to a bundle. A prediction replaces older predictions for the same package and device."""
    kept = [
        old
        for old in read_records(folder)
        if old.kind == "measured" or (old.kind, old.what, old.device) != (record.kind, record.what, record.device)
    ]
    lines = [json.dumps(dataclasses.asdict(entry)) for entry in (*kept, record)]
    return write_atomically(folder / LATENCY, "\n".join(lines) + "\n")


def read_records(folder: Path) -> list[LatencyRecord]:
    """Read the records of a bundle, oldest first.

    Raises:
        RunError: A line is not a latency record.
    """
    file = folder / LATENCY
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            records.append(LatencyRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RunError(f"{file}:{number}: not a latency record ({error})") from error
    return records


def latency_tables(records: Iterable[LatencyRecord]) -> str:
    """Return a table of predictions and a table of measurements. A table without records is omitted."""
    records = list(records)
    kinds: tuple[RecordKind, ...] = ("predicted", "measured")
    tables = [_table(kind, chosen) for kind in kinds if (chosen := [r for r in records if r.kind == kind])]
    return "\n\n".join(tables)


def _table(kind: RecordKind, records: Sequence[LatencyRecord]) -> str:
    columns = {
        "what": [r.what for r in records],
        "device": [r.device for r in records],
        "system": [r.system for r in records],
        "units": [r.units for r in records],
        "batch": [r.batch for r in records],
        "size": [r.size for r in records],
        "ms": [f"{r.milliseconds:.1f}" for r in records],
        "spread": [f"{r.low:.1f} to {r.high:.1f}" for r in records],
        "runs": [r.runs for r in records],
        "date": [r.date for r in records],
    }
    if kind == "predicted":
        del columns["system"], columns["runs"]
    table = tabulate(columns, headers="keys", tablefmt="simple", disable_numparse=True)
    notes = dict.fromkeys(f"spread: {record.spread}" for record in records)
    notes |= dict.fromkeys(f"{record.what}, {record.device}: {record.note}" for record in records if record.note)
    return "\n".join([f"{kind} latency", table, *notes])
