"""Copies a run's journal to MLflow beside the training, which never waits for it.

What is sent is remembered in ``tracking.json`` after every batch, so that the copy goes on after any stop.
"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pocketdit.tracking import journal, target
from pocketdit.tracking.journal import Artifact, Event, Image, Metric, Status
from pocketdit.tracking.mlflow_run import GoneError, MlflowRun

# MLflow takes 1000 metrics, 100 parameters, 100 tags and 1 MB in one request: mlflow/utils/validation.py.
_MAX_METRICS = 1000
_MAX_OTHERS = 100
_MAX_BYTES = 500_000

_PERIOD = 2.0  # seconds between looks at the journal
_LONGEST_PAUSE = 30.0  # seconds between attempts while MLflow does not answer
_FILE_ATTEMPTS = 3


def batches(path: Path, offset: int) -> Iterator[tuple[list[Event], int]]:
    """The journal from byte ``offset`` on in pieces that one request takes, each with the offset behind it.

    A picture, a file or a status comes alone.
    """
    batch: list[Event] = []
    metrics, start, end = 0, offset, offset
    for event, behind in journal.read(path, offset):
        alone = isinstance(event, Image | Artifact | Status)
        full = metrics == _MAX_METRICS or len(batch) - metrics == _MAX_OTHERS or behind - start > _MAX_BYTES
        if batch and (alone or full):
            yield batch, end
            batch, metrics, start = [], 0, end
        end = behind
        if event is not None:
            batch.append(event)
            metrics += isinstance(event, Metric)
        if alone:
            yield batch, end
            batch, start = [], end
    if end > start:
        yield batch, end


def unsent(run_folder: Path) -> int:
    """How many events of the journal MLflow does not have."""
    stored = target.load(run_folder)
    path = run_folder / journal.FILE_NAME
    return sum(1 for _ in journal.read(path, stored.offset if stored else 0)) if path.exists() else 0


class Sender:
    """Sends what is unsent of one run, in the order of its journal, and keeps count in ``tracking.json``."""

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._run: MlflowRun | None = None
        self._file_failures = 0

    def send_all(self, abandon: threading.Event | None = None) -> int:
        """Sends until all is sent, or ends after the batch at hand when ``abandon`` is set. Returns how many
        events MLflow took.

        Raises what MLflow raises where it cannot be reached; call again to go on.
        """
        run = self._connect()
        sent = 0
        for events, offset in batches(self.run_folder / journal.FILE_NAME, run.target.offset):
            if abandon is not None and abandon.is_set():
                break
            try:
                refused = self._send(run, events) if events else 0
            except GoneError:
                self._run = None
                raise
            run.target = replace(run.target, offset=offset, refused=run.target.refused + refused)
            target.save(self.run_folder, run.target)
            sent += len(events) - refused
        return sent

    def _connect(self) -> MlflowRun:
        if self._run is None:
            stored = target.load(self.run_folder)
            if stored is None:
                raise FileNotFoundError(self.run_folder / target.FILE_NAME)
            if (self.run_folder / journal.FILE_NAME).stat().st_size < stored.offset:  # not the journal that was sent
                stored = stored.from_the_start()
            self._run = MlflowRun(self.run_folder, stored)
            target.save(self.run_folder, self._run.target)
        return self._run

    def _send(self, run: MlflowRun, events: list[Event]) -> int:
        """As ``MlflowRun.send``. A file that fails again and again while MLflow answers (too big for the
        server, no right to write there) is given up, so that it does not hold back what comes after it."""
        try:
            refused = run.send(events)
        except Exception:
            self._file_failures += isinstance(events[0], Image | Artifact)
            if self._file_failures < _FILE_ATTEMPTS or not run.reachable():
                raise
            refused = 1
        self._file_failures = 0
        return refused


class Shipper:
    """A daemon thread that sends what is appended to the journal of ``run_folder``, from its ``start`` on.

    While MLflow does not answer it tries again, at first after seconds, then every half minute.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.error: Exception | None = None  # why the last attempt failed, if it did
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float) -> int:
        """Sends the rest and ends. Returns how many events are left unsent, after ``timeout`` seconds at
        most; when MLflow does not answer, after one more attempt."""
        self._closing.set()
        self._thread.join(timeout)
        self._abandoned.set()
        return unsent(self.run_folder)

    def _work(self) -> None:
        sender = Sender(self.run_folder)
        pause = _PERIOD
        seen = -1
        while not self._abandoned.is_set():
            last = self._closing.is_set()  # asked before sending: what was logged before close() is then sent
            try:
                size = (self.run_folder / journal.FILE_NAME).stat().st_size
                if size != seen:
                    sender.send_all(self._abandoned)
                self.error, seen, pause = None, size, _PERIOD
            except Exception as error:  # stores, proxies and networks raise anything; the run goes on without
                self.error, pause = error, min(2 * pause, _LONGEST_PAUSE)
            if last:
                return
            self._closing.wait(pause)
