"""The run's own record of what was logged: ``metrics.jsonl``, one JSON object a line, only ever appended to.

It is complete whatever happens to MLflow, which gets a copy of it (``shipper.py``). Values survive the way to
text and back bit for bit; JSON has no NaN and no infinity, so these stand as the strings "nan", "inf",
"-inf".
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
    """``step``: optimizer steps. ``time``: seconds since 1970, as in every event."""

    key: str
    value: float
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Param:
    """A setting of the run: written once, never changed."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A note on the run; the last one of a key counts."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that belongs to a step. ``path``: relative to the run folder."""

    key: str
    path: str
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """Any other file. ``path``: relative to the run folder; ``folder``: where it goes in MLflow's listing."""

    path: str
    folder: str


@dataclass(frozen=True, slots=True)
class Status:
    """How the run stands; the last one counts."""

    value: RunStatus
    time: float


Event = Metric | Param | Tag | Image | Artifact | Status

_KINDS: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in (Metric, Param, Tag, Image, Artifact, Status)}


def encode(event: Event) -> bytes:
    """One line, its newline included."""
    fields = {"kind": type(event).__name__.lower(), **asdict(event)}
    if isinstance(event, Metric) and not math.isfinite(event.value):
        fields["value"] = str(event.value)
    return json.dumps(fields).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The event of a line; None for one that is damaged or of a kind that this version does not know."""
    try:
        fields = json.loads(line)
        event = _KINDS[fields.pop("kind")](**fields)
        if not isinstance(event, Metric):
            return event
        return Metric(event.key, float(event.value), event.step, event.time)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read(path: Path, offset: int = 0) -> Iterator[tuple[Event | None, int]]:
    """The events of the journal from byte ``offset`` on, each with the offset behind it.

    Ends before a last line that has no newline: it is being written, or was cut off. A damaged line gives
    None.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line), offset


def metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric in the journal at ``path``: key -> (step, value), in the order they were logged."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event, _ in read(path):
        if isinstance(event, Metric):
            curves[event.key].append((event.step, event.value))
    return dict(curves)


class Journal:
    """Appends to ``path``, going on behind what stands there (``resumed`` says whether anything did).

    A run that is resumed repeats the steps after its last checkpoint with the same values. What the journal
    held when it was opened is therefore not written again: metrics and pictures of the same key and step,
    parameters of the same key, tags of the same value. A line is handed to the operating system before the
    call returns, so that it outlives the process. Raises ``RunError`` where the file cannot be written (a
    full disk).
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
            _cut_half_line(path)
            for event, _ in read(path):
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
        """A parameter that stands already keeps its first value."""
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


def _cut_half_line(path: Path) -> None:
    """Takes off what a killed process left of its last line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
