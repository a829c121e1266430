"""Copies a run's journal to MLflow in the background, so that training never waits for MLflow.

After every batch of events, ``tracking.json`` records how much has been sent. An interrupted copy therefore resumes
where it stopped.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pocketdit.tracking import journal, target
from pocketdit.tracking.events import Artifact, Event, Image, Metric, Status
from pocketdit.tracking.mlflow_run import MlflowRun, RunDeletedError, is_temporary

# A request to MLflow is limited to 1000 metrics, 100 parameters, 100 tags, and 1 MB (mlflow/utils/validation.py).
_MAX_METRICS = 1000
_MAX_OTHERS = 100
_MAX_BYTES = 500_000

_POLL_SECONDS = 2.0  # seconds between reads of the journal
_MAX_RETRY_SECONDS = 30.0  # longest pause, in seconds, between attempts while MLflow does not respond
_MAX_ATTEMPTS = 3  # attempts to send events that MLflow refuses while it accepts others
_ATTEMPT_SECONDS = 1.0  # seconds between these attempts


def read_batches(path: Path, offset: int) -> Iterator[tuple[list[Event], int]]:
    """Yield the events from byte ``offset`` on, in batches that each fit into one request.

    An image, an artifact, or a status forms a separate batch.

    Yields:
        The events and the byte offset after them.
    """
    batch: list[Event] = []
    metrics, start, end = 0, offset, offset
    for event, next_offset in journal.read_events(path, offset):
        alone = isinstance(event, Image | Artifact | Status)
        full = metrics == _MAX_METRICS or len(batch) - metrics == _MAX_OTHERS or next_offset - start > _MAX_BYTES
        if batch and (alone or full):
            yield batch, end
            batch, metrics, start = [], 0, end
        end = next_offset
        if event is not None:
            batch.append(event)
            metrics += isinstance(event, Metric)
        if alone:
            yield batch, end
            batch, start = [], end
    if end > start:
        yield batch, end


def count_unsent(run_folder: Path) -> int:
    """Return the number of events in the journal that have not been sent to MLflow."""
    stored = target.load(run_folder)
    path = run_folder / journal.FILE_NAME
    return sum(1 for _ in journal.read_events(path, stored.offset if stored else 0)) if path.exists() else 0


class Sender:
    """Sends a run's unsent events in journal order and records the progress in ``tracking.json``.

    Args:
        run_folder: The run folder.
        uri: Tracking URI with its password. Defaults to the stored URI, which has no password.
    """

    def __init__(self, run_folder: Path, uri: str | None = None) -> None:
        self.run_folder = run_folder
        self._uri = uri
        self._run: MlflowRun | None = None

    def send_all(self, abandon: threading.Event | None = None) -> int:
        """Send every unsent event.

        Exceptions raised by MLflow are passed on to the caller. The next call resumes after the last batch that was
        sent.

        Args:
            abandon: Event that, once set, stops sending after the current batch.

        Returns:
            The number of events that MLflow accepted.
        """
        run = self._connect()
        sent = 0
        for events, offset in read_batches(self.run_folder / journal.FILE_NAME, run.target.offset):
            if abandon is not None and abandon.is_set():
                break
            try:
                refused = self._send(run, events) if events else 0
            except RunDeletedError:
                self._run = None
                raise
            run.target = replace(run.target, offset=offset, refused=run.target.refused + refused)
            self._save(run.target)
            sent += len(events) - refused
        return sent

    def _connect(self) -> MlflowRun:
        if self._run is None:
            stored = target.load(self.run_folder)
            if stored is None:
                raise FileNotFoundError(self.run_folder / target.FILE_NAME)
            # If the journal is shorter than the offset, it has been replaced since it was sent.
            if (self.run_folder / journal.FILE_NAME).stat().st_size < stored.offset:
                stored = stored.reset()
            run = MlflowRun(self.run_folder, stored, self._uri)
            self._save(run.target)
            self._run = run
        return self._run

    def _save(self, progress: target.Target) -> None:
        """Record the progress.

        Raises:
            FileNotFoundError: The run folder has been deleted or replaced by another run's folder.
        """
        stored = target.load(self.run_folder)
        if stored is None or stored.identity != progress.identity:
            raise FileNotFoundError(self.run_folder / target.FILE_NAME)
        target.save(self.run_folder, progress)

    def _send(self, run: MlflowRun, events: list[Event]) -> int:
        """Call ``MlflowRun.send``, but give up on events that MLflow refuses repeatedly while it accepts others.

        Such an event, for example a file that is too large for the server, would otherwise block all later events. If
        the disk or the server is at fault, no event is given up.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return run.send(events, give_up=attempt == _MAX_ATTEMPTS)
            except RunDeletedError:
                raise
            except Exception as error:  # a store, a proxy, or the network can cause any exception
                if attempt == _MAX_ATTEMPTS or is_temporary(error) or not run.is_writable():
                    raise
            time.sleep(_ATTEMPT_SECONDS)
        raise AssertionError("the last attempt returns or raises")


class Shipper:
    """A daemon thread that sends everything appended to the journal of ``run_folder``.

    While MLflow does not respond, the thread retries, first every few seconds and later every half minute.

    Attributes:
        error: The exception raised by the last attempt, or None if it succeeded.
    """

    def __init__(self, run_folder: Path, uri: str | None = None) -> None:
        self.run_folder = run_folder
        self._uri = uri
        self.error: Exception | None = None
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-shipper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float) -> int:
        """Send the remaining events and stop, within ``timeout`` seconds.

        If MLflow does not respond, only one more attempt is made.

        Returns:
            The number of unsent events.
        """
        self._closing.set()
        self._thread.join(timeout)
        self._abandoned.set()
        return count_unsent(self.run_folder)

    def _work(self) -> None:
        sender = Sender(self.run_folder, self._uri)
        pause = _POLL_SECONDS
        sent_size = -1
        while not self._abandoned.is_set():
            # Read the flag before sending, so that the last pass includes everything logged before close().
            last = self._closing.is_set()
            try:
                size = (self.run_folder / journal.FILE_NAME).stat().st_size
                if size != sent_size:
                    sender.send_all(self._abandoned)
                self.error, sent_size, pause = None, size, _POLL_SECONDS
            except Exception as error:  # a store, a proxy, or the network can cause any exception
                self.error, pause = error, min(2 * pause, _MAX_RETRY_SECONDS)
            if last:
                return
            self._closing.wait(pause)
