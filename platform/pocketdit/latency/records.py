"""What a package takes on a device: one record type for predictions and measurements, kept beside the bundle.

``latency.jsonl`` holds one JSON object a line, the newest last. Tables are of one kind each.
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

from pocketdit.errors import RunError
from pocketdit.files import sha256_of, write_atomically

FILE_NAME = "latency.jsonl"
Kind = Literal["predicted", "measured"]


@dataclass(frozen=True)
class LatencyRecord:
    """``what``: the package's name in its bundle, such as transformer. ``sha256``: of its content (``content_hash``).

    ``device``: a name in ``devices.DEVICES``, or what the machine calls itself. ``system``: operating system with its
    version, empty for predictions. ``units``: compute units, as Core ML or LiteRT name them. ``size``: picture
    HEIGHTxWIDTH. ``milliseconds``: the median, or the prediction; ``low`` and ``high``: ends of what ``spread`` names.
    ``runs``: evaluations that were timed, 0 for predictions. ``date``: ISO 8601, UTC. ``note``: what else to know.
    """

    what: str
    sha256: str
    kind: Kind
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
            raise ValueError(f"kind must be predicted or measured, not {self.kind!r}")
        if (self.kind == "measured") != (self.runs > 0):
            raise ValueError("a measurement has runs, a prediction has none")


def measured(
    samples: Sequence[float], what: str, sha256: str, device: str, system: str, units: str, batch: int, size: str,
    note: str = "",
) -> LatencyRecord:  # fmt: skip
    """From the milliseconds of every timed evaluation: the median with the 5th and 95th percentile."""
    low, middle, high = (float(value) for value in np.percentile(samples, [5, 50, 95]))
    return LatencyRecord(what, sha256, "measured", device, system, units, batch, size, middle, low, high,
                         "5th to 95th percentile", len(samples), now(), note)  # fmt: skip


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_system() -> str:
    """This machine's operating system with its version."""
    if mac := platform.mac_ver()[0]:
        return f"macOS {mac}"
    return f"{platform.system()} {platform.release()}"


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    text = "\n".join(f"{file.relative_to(path).as_posix()} {sha256_of(file)}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()


def add(folder: Path, record: LatencyRecord) -> Path:
    """Append to the folder's records. A prediction takes the place of an older one of the same package and device."""
    about = (record.kind, record.what, record.device)
    earlier = [old for old in read(folder) if old.kind == "measured" or (old.kind, old.what, old.device) != about]
    records = [*earlier, record]
    lines = [json.dumps(dataclasses.asdict(one)) for one in records]
    return write_atomically(folder / FILE_NAME, "\n".join(lines) + "\n")


def read(folder: Path) -> list[LatencyRecord]:
    """The folder's records, oldest first; none where there is no file. ``RunError`` for a line that is no record."""
    file = folder / FILE_NAME
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            records.append(LatencyRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RunError(f"{file}:{number}: no latency record ({error})") from error
    return records


def tables(records: Iterable[LatencyRecord]) -> str:
    """The predicted and the measured ones, apart; a kind without records has no table."""
    records = list(records)
    kinds: tuple[Kind, ...] = ("predicted", "measured")
    texts = [_table(kind, some) for kind in kinds if (some := [r for r in records if r.kind == kind])]
    return "\n\n".join(texts)


def _table(kind: Kind, records: Sequence[LatencyRecord]) -> str:
    headings = ["what", "device", "system", "units", "batch", "size", "ms", "spread", "runs", "date"]
    if kind == "predicted":
        headings = [heading for heading in headings if heading not in ("system", "runs")]
    rows = [[_cell(record, heading) for heading in headings] for record in records]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    notes = dict.fromkeys(f"{kind}: {record.spread}" for record in records)
    notes |= dict.fromkeys(f"{record.what}, {record.device}: {record.note}" for record in records if record.note)
    return "\n".join([f"{kind} latency", *lines, *notes])


def _cell(record: LatencyRecord, heading: str) -> str:
    match heading:
        case "ms":
            return f"{record.milliseconds:.1f}"
        case "spread":
            return f"{record.low:.1f} to {record.high:.1f}"
        case _:
            return str(getattr(record, heading))
