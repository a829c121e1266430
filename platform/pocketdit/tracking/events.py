"""The events of a run, and their encoding as lines of the journal.

Values are stored exactly: a float read from the journal is bit-identical to the logged float. JSON has no NaN or
infinity, so these are written as the strings "nan", "inf", and "-inf".
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, slots=True)
class Metric:
    """The value of a metric at a step.

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


_FIELDS = {name: {field.name: field.type for field in fields(kind)} for name, kind in _KINDS.items()}
_LARGEST_STEP = 2**63 - 1  # the largest integer that databases can store
_LATEST_TIME = 2**63 / 1000 - 1  # MLflow stores milliseconds in 64 bits


def encode(event: Event) -> bytes:
    """Return ``event`` as a line of the journal, including the newline."""
    fields = {"kind": type(event).__name__.lower(), **asdict(event)}
    if isinstance(event, Metric) and not math.isfinite(event.value):
        fields["value"] = str(event.value)
    return json.dumps(fields).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event on ``line``, or None if the line is damaged or this version does not know the kind of event."""
    try:
        values = json.loads(line)
        kind = values.pop("kind")
        if kind == "metric":
            values["value"] = float(values["value"])
        if not all(_is_valid(values[name], expected) for name, expected in _FIELDS[kind].items()):
            return None
        if not 0 <= values.get("time", 0) <= _LATEST_TIME:
            return None
        return _KINDS[kind](**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_valid(value: Any, expected: Any) -> bool:
    """Return whether a value has the type of its field and can be sent to MLflow. Metrics may be NaN or infinite."""
    if expected is int:
        return isinstance(value, int) and 0 <= value <= _LARGEST_STEP
    if expected is float:
        return isinstance(value, int | float)
    return isinstance(value, str) and (expected is str or value in get_args(expected))
