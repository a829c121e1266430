"""The journal of a run: ``metrics.jsonl``, an append-only file with one JSON object per line.

The journal is complete even if MLflow, which receives a copy of it (see ``shipper.py``), fails. Values are
stored exactly: a float that is read back is bit for bit the one that was logged. JSON has no NaN or infinity, so
these are written as the strings "nan", "inf" and "-inf".
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, assert_never

from pocketdit.errors import RunError

FILE_NAME = "metrics.jsonl"

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of a curve.

    Attributes:
        step: Number of optimizer steps.
        time: Seconds since the Unix epoch, as in every other event.
    """

    key: str
    value: float
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Param:
    """A setting of the run. It is written once and never changes."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A note about the run. The last value logged under a key replaces the earlier ones."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image that belongs to a step. ``path`` is relative to the run folder."""

    key: str
    path: str
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the run other than an image.

    Attributes:
        path: Path relative to the run folder.
        folder: Folder under which MLflow lists the file.
    """

    path: str
    folder: str


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the run. The last status in the journal is the current one."""

    value: RunStatus
    time: float


Event = Metric | Param | Tag | Image | Artifact | Status

_KINDS: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in (Metric, Param, Tag, Image, Artifact, Status)}


def encode(event: Event) -> bytes:
    """Return ``event`` as a line of the journal, including the newline."""
    fields = {"kind": type(event).__name__.lower(), **asdict(event)}
    if isinstance(event, Metric) and not math.isfinite(event.value):
        fields["value"] = str(event.value)
    return json.dumps(fields).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event on ``line``, or None if the line is damaged or its kind is unknown to this version."""
    try:
        fields = json.loads(line)
        event = _KINDS[fields.pop("kind")](**fields)
        if not isinstance(event, Metric):
            return event
        return Metric(event.key, float(event.value), event.step, event.time)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event | None, int]]:
    """Yield the events of a journal, starting at byte ``offset``.

    Stops before a last line without a newline, which is still being written or was cut off.

    Yields:
        The event (None for a damaged line) and the byte offset of the line after it.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line), offset


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return every curve in the journal at ``path``: key -> (step, value) in the order they were logged."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event, _ in read_events(path):
        if isinstance(event, Metric):
            curves[event.key].append((event.step, event.value))
    return dict(curves)


class Journal:
    """Appends events to the journal at ``path``, continuing an existing file.

    A resumed run repeats the steps after its last checkpoint, with the same values. The journal therefore skips
    what it already contained when it was opened: metrics and images of the same key and step, parameters of the
    same key, and tags with the same value. Each line is handed to the operating system before the call returns,
    so it survives if the process is killed.

    Args:
        path: The file, which is created along with its folder if necessary.

    Attributes:
        resumed: Whether the file already contained events.
        params: The value of every parameter logged so far.

    Raises:
        RunError: If the file cannot be opened or written, for example because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._metric_steps: dict[str, set[int]] = defaultdict(set)
        self._image_steps: dict[str, set[int]] = defaultdict(set)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            _truncate_partial_line(path)
            for event, _ in read_events(path):
                if event is not None:
                    self._remember(event)
            self.resumed = path.stat().st_size > 0
        except OSError as error:
            raise RunError(
                f"{path}: cannot be opened ({error.strerror}); make it writable and resume the run"
            ) from error

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        now = time.time()
        known = self._metric_steps
        self._append(
            *(Metric(key, value, step, now) for key, value in values.items() if step not in known.get(key, ()))
        )

    def log_param(self, key: str, value: str) -> None:
        """Log a parameter. One that was logged before keeps its first value."""
        if key not in self.params:
            self.params[key] = value
            self._append(Param(key, value))

    def log_tag(self, key: str, value: str) -> None:
        if self._tags.get(key) != value:
            self._tags[key] = value
            self._append(Tag(key, value))

    def log_image(self, key: str, path: str, step: int) -> None:
        if step not in self._image_steps.get(key, ()):
            self._append(Image(key, path, step, time.time()))

    def log_artifact(self, path: str, folder: str = "") -> None:
        self._append(Artifact(path, folder))

    def log_status(self, value: RunStatus) -> None:
        self._append(Status(value, time.time()))

    def close(self) -> None:
        self._file.close()

    def _append(self, *events: Event) -> None:
        lines = b"".join(encode(event) for event in events)
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror}); free space and resume the run"
            ) from error

    def _remember(self, event: Event) -> None:
        match event:
            case Metric(key=key, step=step):
                self._metric_steps[key].add(step)
            case Image(key=key, step=step):
                self._image_steps[key].add(step)
            case Param(key=key, value=value):
                self.params[key] = value
            case Tag(key=key, value=value):
                self._tags[key] = value
            case Artifact() | Status():
                pass
            case _:
                assert_never(event)


def _truncate_partial_line(path: Path) -> None:
    """Remove the part of a last line that a killed process left behind."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)
