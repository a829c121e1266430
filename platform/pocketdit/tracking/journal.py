"""The journal of a run: ``metrics.jsonl``, an append-only file with one JSON object per line.

The journal is complete even if MLflow, which receives a copy of it (see ``shipper.py``), fails. Values are stored
exactly: a float read from the journal is bit for bit identical to the logged float. JSON has no NaN or infinity, so
these are written as the strings "nan", "inf", and "-inf".
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
    """A point on a curve.

    Attributes:
        step: Optimizer step.
        time: Seconds since the Unix epoch, as in all events.
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
    """A note about the run. A new value for a key replaces the previous value."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image logged at a step. ``path`` is relative to the run folder."""

    key: str
    path: str
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the run other than an image.

    Attributes:
        path: Path relative to the run folder.
        folder: Folder in which MLflow lists the file.
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
    """Return the event on ``line``, or None if the line is damaged or this version does not know its kind."""
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

    A last line without a newline is skipped, because it is still being written or was cut off.

    Yields:
        The event (None for a damaged line) and the byte offset of the next line.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line), offset


def file_in(run_folder: Path, path: str) -> Path:
    """Return the path of an event's file. It must be in the run folder, because a journal may come from someone else.

    Raises:
        RunError: The path or the target of a link is outside the run folder.
    """
    file = (run_folder / path).resolve()
    if not file.is_relative_to(run_folder.resolve()):
        raise RunError(
            f"{run_folder / FILE_NAME} refers to {path!r}, which is outside the run folder and was not sent; remove "
            "the line if you trust the rest of the journal"
        )
    return file


def require_own_files(run_folder: Path) -> None:
    """Check that a journal refers only to files in its run folder.

    Raises:
        RunError: The journal refers to a file outside the run folder.
    """
    for event, _ in read_events(run_folder / FILE_NAME):
        if isinstance(event, Image | Artifact):
            file_in(run_folder, event.path)


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves in the journal at ``path``, as (step, value) pairs by key in logging order.

    If a run was resumed with other settings, the values of the steps that it repeated replace the previous ones.
    """
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for event, _ in read_events(path):
        if isinstance(event, Metric):
            curves[event.key][event.step] = event.value
    return {key: list(curve.items()) for key, curve in curves.items()}


class Journal:
    """Writer that appends events to the journal at ``path``.

    A resumed run repeats the steps after its last checkpoint and logs the same values again. The journal therefore
    skips entries that it already contained when it was opened: metrics and images with the same key and step,
    parameters with the same key, and tags with the same value. Each line is passed to the operating system before the
    call returns, so it is not lost if the process is killed.

    Args:
        path: Path of the file. The file and its folder are created if necessary.
        repeats_steps: Whether metrics and images that the file already contains are skipped. If not, they are logged
            again, because they differ.

    Attributes:
        resumed: Whether the file already contained events.
        params: Values of all parameters logged so far, by key.

    Raises:
        RunError: The file cannot be opened or written, for example because the disk is full.
    """

    def __init__(self, path: Path, repeats_steps: bool = True) -> None:
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
                if event is not None and (repeats_steps or not isinstance(event, Metric | Image)):
                    self._remember(event)
            self.resumed = path.stat().st_size > 0
        except OSError as error:
            raise RunError(
                f"{path}: cannot be opened ({error.strerror}); make it writable and resume the run"
            ) from error

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics, except those that the journal already contained for this step when it was opened."""
        now = time.time()
        known = self._metric_steps
        self._append(
            *(Metric(key, value, step, now) for key, value in values.items() if step not in known.get(key, ()))
        )

    def log_param(self, key: str, value: str) -> None:
        """Log a parameter. A parameter that was logged before keeps its first value."""
        if key not in self.params:
            self.params[key] = value
            self._append(Param(key, value))

    def log_tag(self, key: str, value: str) -> None:
        """Log a tag, unless it already has this value."""
        if self._tags.get(key) != value:
            self._tags[key] = value
            self._append(Tag(key, value))

    def log_image(self, key: str, path: str, step: int) -> None:
        """Log an image, unless the journal already contained one for this key and step when it was opened."""
        if step not in self._image_steps.get(key, ()):
            self._append(Image(key, path, step, time.time()))

    def log_artifact(self, path: str, folder: str = "") -> None:
        """Log a file, which MLflow lists in ``folder``."""
        self._append(Artifact(path, folder))

    def log_status(self, value: RunStatus) -> None:
        """Log a change of the run's status."""
        self._append(Status(value, time.time()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, *events: Event) -> None:
        lines = b"".join(encode(event) for event in events)
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror}); free disk space and resume the run"
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
    """Remove a partial last line left by a killed process."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)
