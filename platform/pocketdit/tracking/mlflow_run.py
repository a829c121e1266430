"""One MLflow run and how events get into it, safe to repeat: an event that is sent twice stands there once.

MLflow keys a metric by run, name, step, time and value, parameters and tags by name, and files by their name,
and all of these come out of the journal. mlflow is imported only when a connection is made: it takes seconds.
"""

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

from pocketdit.tracking.journal import Artifact, Event, Image, Metric, Param, Status, Tag
from pocketdit.tracking.target import Target, artifact_root, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

# MLflow's own limits: mlflow/utils/validation.py.
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_KEY_LENGTH = 250

_IDENTITY_TAG = "pocketdit.identity"
_THUMBNAIL_PIXELS = 256

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # MLflow would repeat a failed request for minutes; the shipper has its own back-off.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Both write into the progress bar.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_log = logging.getLogger(__name__)

# A process that forks while another thread imports leaves its child with import locks that nobody will
# release, and a data worker that imports one of those modules waits for ever. So a fork waits until mlflow is
# imported.
_importing = threading.RLock()
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


class GoneError(Exception):
    """The run does not exist any more in MLflow: it was deleted, or its database was."""


class MlflowRun:
    """A connection to the run of ``target`` in MLflow, which is found or made. Raises whatever MLflow
    raises."""

    def __init__(self, run_folder: Path, target: Target) -> None:
        self.run_folder = run_folder
        self._client = _client(target.uri)
        if target.run_id is None or not self._is_active(target.run_id):
            target = replace(target.from_the_start(), run_id=self._find_or_create(target))
        self.target = target
        self._run_id = str(target.run_id)

    def reachable(self) -> bool:
        """Whether MLflow answers and knows the run."""
        try:
            return self._is_active(self._run_id)
        except Exception:  # whatever a store, a proxy or a network raises: it does not answer
            return False

    def send(self, events: Sequence[Event]) -> int:
        """Writes ``events``; returns how many of them MLflow refuses for good (each gets a warning).

        Raises ``GoneError`` where the run is gone, and what MLflow raises where trying again may help.
        """
        from mlflow.exceptions import MlflowException

        if isinstance(events[0], Image | Artifact) and not (self.run_folder / events[0].path).exists():
            _log.warning("%s is gone, so it is not sent to MLflow", self.run_folder / events[0].path)
            return 1
        try:
            self._send(events)
            return 0
        except MlflowException as error:
            if not _is_refusal(error):
                raise
            if not self._is_active(self._run_id):
                raise GoneError(self._run_id) from error
            if len(events) == 1:
                _log.warning("MLflow refuses %s: %s", events[0], error.message)
                return 1
        middle = len(events) // 2
        return self.send(events[:middle]) + self.send(events[middle:])

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
                    metrics.append(entities.Metric(_name(key), value, _milliseconds(time), step))
                case Param(key=key, value=value):
                    params.append(entities.Param(_name(key), value))
                case Tag(key=key, value=value):
                    tags[_name(key)] = value
                case Image() | Artifact() | Status():
                    raise ValueError(f"{event} is not sent together with others")
                case _:
                    assert_never(event)
        run_tags = [entities.RunTag(key, value) for key, value in tags.items()]
        self._client.log_batch(self._run_id, metrics, params, run_tags)

    def _send_image(self, image: Image) -> None:
        """Sends a picture and its thumbnail under the names by which MLflow's charts show pictures over
        steps.

        They are those of ``MlflowClient.log_image`` (mlflow 3.17), with a fixed number in place of a random
        one: sent again, the picture is overwritten.
        """
        import PIL.Image

        number = uuid.uuid5(uuid.NAMESPACE_URL, f"{image.key}/{image.step}/{image.time}")
        key = _name(image.key).replace(":", "_").replace("/", "~")
        name = f"{key}+step+{image.step}+timestamp+{_milliseconds(image.time)}+{number}"
        with tempfile.TemporaryDirectory() as folder, PIL.Image.open(self.run_folder / image.path) as picture:
            full, small = Path(folder, f"{name}.png"), Path(folder, f"{name}+compressed.webp")
            picture.save(full)
            picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
            picture.save(small)
            for path in (full, small):
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
        ours = f"tags.`{_IDENTITY_TAG}` = '{target.identity}'"
        found = self._client.search_runs([experiment], ours, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {_IDENTITY_TAG: target.identity}
        return str(self._client.create_run(experiment, run_name=target.run_name, tags=tags).info.run_id)

    def _experiment(self, target: Target) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(target.project)
        if experiment is None:
            with suppress(MlflowException):  # another run may have made it just now
                # The kind decides which of its two faces, training or language models, MLflow's page shows.
                tags = {"mlflow.experimentKind": "custom_model_development"}
                root = artifact_root(target.uri)
                return str(self._client.create_experiment(target.project, root, tags=tags))
            experiment = self._client.get_experiment_by_name(target.project)
        if experiment is None:
            raise ConnectionError(f"MLflow neither has nor makes the experiment {target.project}")
        if experiment.lifecycle_stage != "active":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def _client(uri: str) -> "MlflowClient":
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _importing:
        from mlflow import MlflowClient, entities, exceptions  # noqa: F401
    database = sqlite_path(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def _is_refusal(error: "MlflowException") -> bool:
    """Whether the same request would fail again."""
    return error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


def _milliseconds(time: float) -> int:
    return int(time * 1000)


def _name(key: str) -> str:
    """``key`` with what MLflow does not allow in names replaced."""
    return re.sub(r"[^\w./ :-]", "_", key)[:MAX_KEY_LENGTH]
