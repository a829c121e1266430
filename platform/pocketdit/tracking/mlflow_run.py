"""Writes events to one MLflow run idempotently: an event that is sent twice is recorded once.

MLflow identifies a metric by its run, name, step, time, and value, and identifies parameters, tags, and files by their
names. The journal determines all of these. mlflow is imported only when a connection is made, because the import takes
seconds.
"""

import errno
import logging
import os
import re
import tempfile
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from pocketdit.tracking.events import Artifact, Event, Image, Metric, Param, Status, Tag
from pocketdit.tracking.failures import root_cause
from pocketdit.tracking.journal import FILE_NAME as JOURNAL
from pocketdit.tracking.journal import file_in, read_events
from pocketdit.tracking.target import Target, artifact_root, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

# MLflow's limits, from mlflow/utils/validation.py.
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_KEY_LENGTH = 250

_IDENTITY_TAG = "pocketdit.identity"
_THUMBNAIL_PIXELS = 256

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # By default, MLflow retries a failed request for minutes. The shipper has its own backoff.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # MLflow's log messages and URLs would break up the progress bar. It logs database errors with tracebacks,
    # but it raises them as well.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_log = logging.getLogger(__name__)

# If a process forks while another of its threads is importing a module, the child inherits an import lock that is never
# released. A data worker that imports the same module then hangs. Forking therefore waits for the import of mlflow.
_importing = threading.RLock()
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


class RunDeletedError(Exception):
    """The run no longer exists in MLflow because it or its database was deleted."""


class MlflowRun:
    """A connection to the MLflow run of ``target``, which is created if it does not exist.

    Exceptions raised by MLflow are passed on to the caller.

    Args:
        run_folder: The run folder, which contains the images and artifacts.
        target: The stored target.
        uri: Tracking URI with its password. Defaults to the URI of ``target``, which has no password.

    Attributes:
        target: The target with the ID of the run.
    """

    def __init__(self, run_folder: Path, target: Target, uri: str | None = None) -> None:
        self.run_folder = run_folder
        self._client = _client(uri or target.uri)
        if target.run_id is None or not self._is_active(target.run_id):
            target = replace(target.reset(), run_id=self._find_or_create(target))
        self.target = target
        self._run_id = str(target.run_id)

    def is_writable(self) -> bool:
        """Return whether MLflow accepts a tag for the run. If so, an event that MLflow refuses is invalid."""
        try:
            self._client.set_tag(self._run_id, _IDENTITY_TAG, self.target.identity)
        except Exception:  # a store, a proxy, or the network can cause any exception
            return False
        return True

    def send(self, events: Sequence[Event], give_up: bool = False) -> int:
        """Write ``events`` to the run.

        Args:
            events: The events.
            give_up: Whether an event counts as rejected after any failure, as long as MLflow accepts other events.

        Returns:
            The number of events that MLflow permanently rejected. Each rejection is logged as a warning.

        Raises:
            RunDeletedError: The run no longer exists.
            Exception: Sending failed, but a retry may succeed.
        """
        from mlflow.exceptions import MlflowException

        if isinstance(events[0], Image | Artifact) and not file_in(self.run_folder, events[0].path).is_file():
            _log.warning("%s is missing or is not a file, and was not sent to MLflow", self.run_folder / events[0].path)
            return 1
        try:
            self._send(events)
            return 0
        except Exception as error:  # a store, a proxy, or the network can cause any exception
            is_permanent = isinstance(error, MlflowException) and _is_permanent(error)
            if not (is_permanent or (give_up and not is_temporary(error) and self.is_writable())):
                raise
            if not self._is_active(self._run_id):
                raise RunDeletedError(self._run_id) from error
            if len(events) == 1:
                _log.warning("MLflow rejected %s: %s", events[0], root_cause(error))
                return 1
        middle = len(events) // 2
        return self.send(events[:middle], give_up) + self.send(events[middle:], give_up)

    def _send(self, events: Sequence[Event]) -> None:
        match events:
            case [Image() as image]:
                self._send_image(image)
            case [Artifact(path=path, folder=folder)]:
                self._client.log_artifact(self._run_id, str(self.run_folder / path), folder or None)
            case [Status(value="RUNNING")]:
                self._client.update_run(self._run_id, status="RUNNING")
            case [Status(value=value, time=time)]:
                self._client.set_terminated(self._run_id, value, end_time=_milliseconds(time))
            case _:
                self._send_values(events)

    def _send_values(self, events: Sequence[Event]) -> None:
        from mlflow import entities

        metrics, params, tags = [], [], {}
        for event in events:
            match event:
                case Metric(key=key, value=value, step=step, time=time):
                    metrics.append(entities.Metric(_sanitize(key), value, _milliseconds(time), step))
                case Param(key=key, value=value):
                    params.append(entities.Param(_sanitize(key), value))
                case Tag(key=key, value=value):
                    tags[_sanitize(key)] = value
                case Image() | Artifact() | Status():
                    raise ValueError(f"{event} must be sent separately")
                case _:
                    assert_never(event)
        run_tags = [entities.RunTag(key, value) for key, value in tags.items()]
        self._client.log_batch(self._run_id, metrics, params, run_tags)

    def _send_image(self, image: Image) -> None:
        """Send an image and its thumbnail under the names that MLflow's charts expect for a series of images.

        The names follow ``MlflowClient.log_image`` (mlflow 3.17), except that a hash of the event replaces the random
        UUID, so sending the image again overwrites it.
        """
        import PIL.Image

        identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{image.key}/{image.step}/{image.time}")
        key = _sanitize(image.key).replace(":", "_").replace("/", "~")
        name = f"{key}+step+{image.step}+timestamp+{_milliseconds(image.time)}+{identifier}"
        with tempfile.TemporaryDirectory() as folder, PIL.Image.open(self.run_folder / image.path) as pixels:
            full, thumbnail = Path(folder, f"{name}.png"), Path(folder, f"{name}+compressed.webp")
            pixels.save(full)
            pixels.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
            pixels.save(thumbnail)
            for path in (full, thumbnail):
                self._client.log_artifact(self._run_id, str(path), "images")
        self._client.set_tag(self._run_id, "mlflow.loggedImages", True)

    def _is_active(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _find_or_create(self, target: Target) -> str:
        experiment = self._experiment(target)
        same_identity = f"tags.`{_IDENTITY_TAG}` = '{target.identity}'"
        runs = self._client.search_runs([experiment], same_identity, max_results=1)
        if runs:
            return str(runs[0].info.run_id)
        tags = {_IDENTITY_TAG: target.identity}
        run = self._client.create_run(experiment, self._start_time(), tags, target.run_name)
        return str(run.info.run_id)

    def _start_time(self) -> int | None:
        """Return the run's start time in milliseconds, or None if it is unknown. The run may be sent much later."""
        if not (self.run_folder / JOURNAL).is_file():
            return None
        events = (event for event, _ in read_events(self.run_folder / JOURNAL))
        times = (event.time for event in events if isinstance(event, Metric | Image | Status))
        start = next(times, None)
        return None if start is None else _milliseconds(start)

    def _experiment(self, target: Target) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(target.project)
        if experiment is None:
            with suppress(MlflowException):  # another run may create it at the same time
                # The kind selects whether MLflow shows its interface for model training or for language models.
                tags = {"mlflow.experimentKind": "custom_model_development"}
                root = artifact_root(target.uri)
                return str(self._client.create_experiment(target.project, root, tags=tags))
            experiment = self._client.get_experiment_by_name(target.project)
        if experiment is None:
            raise ConnectionError(f"MLflow could not create the experiment {target.project}")
        if experiment.lifecycle_stage != "active":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def import_mlflow() -> "type[MlflowClient]":
    """Import mlflow with the settings in ``_ENVIRONMENT``, which it reads when it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _importing:
        from mlflow import MlflowClient, entities, exceptions  # noqa: F401
    imported: type[MlflowClient] = MlflowClient
    return imported


def _client(uri: str) -> "MlflowClient":
    client = import_mlflow()
    database = sqlite_path(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return client(uri)


def is_temporary(error: Exception) -> bool:
    """Return whether the disk, the database, or the server's load is at fault, rather than the request."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return True
    return getattr(error, "error_code", None) in ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def _is_permanent(error: "MlflowException") -> bool:
    """Return whether the same request would fail again."""
    return error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


def _milliseconds(time: float) -> int:
    return int(time * 1000)


def _sanitize(key: str) -> str:
    """Replace the characters of ``key`` that MLflow does not allow in names."""
    return re.sub(r"[^\w./ :-]", "_", key)[:MAX_KEY_LENGTH]
