"""The journal of a run: ``metrics.jsonl``, an append-only file with one JSON object per line.

The journal is complete even if MLflow, which receives a copy of it (see ``shipper.py``), fails.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import assert_never

from pocketdit.errors import RunError
from pocketdit.files import require_regular_file
from pocketdit.links import leads_outside, require_inside
from pocketdit.tracking.events import Artifact, Event, Image, Metric, Param, RunStatus, Status, Tag, decode, encode

FILE_NAME = "metrics.jsonl"

_log = logging.getLogger(__name__)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event | None, int]]:
    """Yield the events of a journal, starting at byte ``offset``.

    A last line without a newline is skipped, because it is still being written or was cut off.

    Yields:
        The event (None for a damaged line) and the byte offset of the next line.
    """
    require_regular_file(path)
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
    file = run_folder / path
    if "\0" in path or leads_outside(file, run_folder):
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
    damaged = []
    for number, (event, _) in enumerate(read_events(run_folder / FILE_NAME), 1):
        if event is None:
            damaged.append(number)
        elif isinstance(event, Image | Artifact):
            file_in(run_folder, event.path)
    _warn_of_damage(run_folder / FILE_NAME, tuple(damaged))


@cache
def _warn_of_damage(path: Path, lines: tuple[int, ...]) -> None:
    """Warn about damaged lines once, even if the journal is read several times."""
    if lines:
        count = "1 damaged line was" if len(lines) == 1 else f"{len(lines)} damaged lines were"
        _log.warning("%s: %s ignored; the first is line %d", path, count, lines[0])


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves in the journal at ``path``: for each key, the (step, value) pairs in logging order.

    If a run was resumed with different settings, the values of the steps that it repeated replace the previous ones.
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
        repeats_steps: Whether a resumed run repeats steps with the same values, so that metrics and images that the
            file already contains are skipped. Otherwise, they are logged again.

    Attributes:
        resumed: Whether the file already contained events.
        params: Values of all parameters logged so far, by key.

    Raises:
        RunError: The file cannot be opened or written, for example because the disk is full, or it is a link to a file
            elsewhere.
    """

    def __init__(self, path: Path, repeats_steps: bool = True) -> None:
        self.path = path
        self.params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._metric_steps: dict[str, set[int]] = defaultdict(set)
        self._image_steps: dict[str, set[int]] = defaultdict(set)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            require_regular_file(path)
            require_inside(path, path.parent)
            self._file = path.open("ab", buffering=0)
            _truncate_partial_line(path)
            damaged = []
            for number, (event, _) in enumerate(read_events(path), 1):
                if event is None:
                    damaged.append(number)
                elif repeats_steps or not isinstance(event, Metric | Image):
                    self._remember(event)
            _warn_of_damage(path, tuple(damaged))
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

    def log_status(self, value: RunStatus, when: float | None = None) -> None:
        """Log a change of the run's status at a time in seconds since the Unix epoch, or now."""
        self._append(Status(value, time.time() if when is None else when))

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
