"""The logger that a run passes to Lightning. It writes to the run folder and sends a copy to MLflow."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from pocketdit.config.experiment import OtherTracker
from pocketdit.config.secrets import mask
from pocketdit.tracking import target
from pocketdit.tracking.events import RunStatus
from pocketdit.tracking.failures import describe, root_cause
from pocketdit.tracking.git import revision
from pocketdit.tracking.journal import FILE_NAME, Journal
from pocketdit.tracking.mlflow_run import MAX_PARAM_LENGTH, MAX_TAG_LENGTH
from pocketdit.tracking.other_loggers import OtherLogger
from pocketdit.tracking.shipper import Shipper
from pocketdit.tracking.sync import sync_command

_STATUS: dict[str, RunStatus] = {"success": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class RunLogger(Logger):
    """Lightning logger that writes to the run folder and to an MLflow experiment.

    Only rank zero logs, and it opens the files on the first call.

    Args:
        run_folder: The run folder ``RUNS/EXPERIMENT/RUN``.
        uri: MLflow tracking URI.
        project: Name of the MLflow experiment.
        fingerprint: Fingerprint of the data set, logged as the tag ``data.fingerprint``.
        code: A folder in the git working tree whose revision is logged.
        close_seconds: Maximum time to wait for MLflow at the end of the run.
        batches_per_step: Batches per optimizer step if Lightning counts batches (manual optimization), and 1 otherwise.
        others: Other programs that receive the settings, metrics and images.
        repeats_steps: Whether a resumed run repeats the steps after its last checkpoint with the same values, which are
            then not logged again. If not, the new values replace the old ones.

    Raises:
        ConfigError: ``uri`` is not a valid tracking URI.
    """

    def __init__(
        self,
        run_folder: Path,
        uri: str = "sqlite:///runs/mlflow.db",
        project: str = "pocketdit",
        fingerprint: str | None = None,
        code: Path = Path(),
        close_seconds: float = 30.0,
        batches_per_step: int = 1,
        repeats_steps: bool = True,
        others: Sequence[OtherTracker] = (),
    ) -> None:
        super().__init__()
        self.run_folder = run_folder.absolute()
        self.uri = target.absolute_uri(uri)
        self.project = project
        self._fingerprint = fingerprint
        self._code = code
        self._close_seconds = close_seconds
        self._batches_per_step = batches_per_step
        self._repeats_steps = repeats_steps
        self._others = [OtherLogger(tracker, self.run_folder) for tracker in others]
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None

    @property
    @override
    def name(self) -> str:
        return self.run_folder.parent.name

    @property
    @override
    def version(self) -> str:
        return self.run_folder.name

    @property
    @override
    def save_dir(self) -> str:
        """The folder of all runs. Lightning stores the files of a run in ``save_dir/name/version``."""
        return str(self.run_folder.parent.parent)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log settings as parameters, with dotted names for nested settings.

        MLflow parameters cannot change, so a value that differs in a resumed run is logged as the tag
        ``resumed.NAME``.
        """
        journal = self._open()
        texts = dict(flatten(vars(params) if isinstance(params, Namespace) else params))
        for other in self._others:
            other.log_hyperparams(texts)
        for key, value in texts.items():
            text = _truncate(value, MAX_PARAM_LENGTH)
            if journal.params.get(key, text) != text:
                journal.log_tag(f"resumed.{key}", text)
            else:
                journal.log_param(key, text)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append metrics to the journal with a single file write, without waiting for MLflow.

        Args:
            metrics: Values by name.
            step: Lightning's step, which counts batches under manual optimization. It is converted to optimizer steps.
        """
        values = {key: float(value) for key, value in metrics.items()}
        step = (step or 0) // self._batches_per_step
        self._open().log_metrics(values, step)
        for other in self._others:
            other.log_metrics(values, step)

    @rank_zero_only
    def log_tag(self, key: str, value: str) -> None:
        """Log a tag. A new value for a key replaces the previous value."""
        self._open().log_tag(key, _truncate(value, MAX_TAG_LENGTH))

    @rank_zero_only
    def log_image(self, key: str, path: Path, step: int) -> None:
        """Log an image file in the run folder.

        MLflow shows the images of several runs under the same key side by side, with a slider for the step.
        """
        self._open().log_image(key, self._relative(path), step)
        for other in self._others:
            other.log_image(key, path, step)

    @rank_zero_only
    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Log a file in the run folder, which MLflow lists in ``folder``."""
        self._open().log_artifact(self._relative(path), folder)

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Record how the run ended and send the rest of the journal to MLflow.

        If some events cannot be sent, one line is printed. Logging may continue afterward, and must then end with
        another call of this method.

        Args:
            status: "success", "failed", or "interrupted".
        """
        if self._journal is None:
            return
        for other in self._others:
            other.finalize(status)
        self._journal.log_status(_STATUS.get(status, "FAILED"))
        if self._shipper is None:
            return
        unsent = self._shipper.close(self._close_seconds)
        error = self._shipper.error
        self._shipper = None
        if unsent:
            folder = _relative_to_current(self.run_folder)
            reason = "" if error is None else f" ({mask(describe(root_cause(error), self.uri))})"
            print(
                f"{unsent} events were not sent to {mask(self.uri)}{reason}; they are kept in {folder / FILE_NAME}; "
                f"send them with: {sync_command(folder, mask(self.uri))}",
                file=sys.stderr,
            )

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self.run_folder / FILE_NAME, self._repeats_steps)
            self._describe(self._journal)
        if self._shipper is None:
            target.open_target(self.run_folder, self.uri, self.project, f"{self.name}/{self.version}")
            self._shipper = Shipper(self.run_folder, self.uri)
            self._shipper.start()
        return self._journal

    def _describe(self, journal: Journal) -> None:
        journal.log_tag("experiment", self.name)
        journal.log_tag("resumed", str(journal.resumed).lower())
        code = revision(self._code)
        if code is not None:
            journal.log_tag("git.revision", code["commit"] + ("+dirty" if code["dirty"] else ""))
            journal.log_tag("mlflow.source.git.commit", code["commit"])
        if self._fingerprint is not None:
            journal.log_tag("data.fingerprint", self._fingerprint)
        if journal.resumed:
            journal.log_status("RUNNING")

    def _relative(self, path: Path) -> str:
        try:
            return path.absolute().relative_to(self.run_folder).as_posix()
        except ValueError:
            raise ValueError(f"{path} is not in the run folder {self.run_folder}") from None


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as pairs of a dotted name and the value as text.

    Mappings and lists that contain mappings are flattened. Any other list is a single value.
    """
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield from flatten({str(index): item for index, item in enumerate(value)}, f"{name}.")
        else:
            yield name, str(value)


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _relative_to_current(path: Path) -> Path:
    current = Path.cwd()
    return path.relative_to(current) if path.is_relative_to(current) else path
