"""Logs to programs other than MLflow, using Lightning's loggers. Their failures do not end the run."""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from PIL import Image

from pocketdit.config.experiment import OtherTracker, TensorBoard, WeightsAndBiases
from pocketdit.config.secrets import mask
from pocketdit.errors import ConfigError
from pocketdit.names import one_line

_log = logging.getLogger(__name__)


def require_others(trackers: Sequence[OtherTracker]) -> None:
    """Check that the programs in ``tracking.also`` can be logged to, before a run starts.

    Raises:
        ConfigError: A package is not installed, or this machine is not logged in to Weights & Biases.
    """
    for i, tracker in enumerate(trackers):
        key = f"tracking.also.{i}"
        if importlib.util.find_spec(tracker.kind) is None:
            raise ConfigError(
                f"{key}: {tracker.kind} is not installed; install it with: pip install 'pocketdit[loggers]'"
            )
        if isinstance(tracker, WeightsAndBiases) and tracker.mode == "online":
            import wandb

            if not wandb.login(prompt=False):
                raise ConfigError(
                    f"{key}: this machine is not logged in to Weights & Biases; log in with: wandb login, or set "
                    "mode: offline"
                )


class OtherLogger:
    """Logs to one program. The program's logger is created when something is logged for the first time.

    Args:
        tracker: Settings of the program.
        run_folder: The run folder ``RUNS/EXPERIMENT/RUN``.
    """

    def __init__(self, tracker: OtherTracker, run_folder: Path) -> None:
        self._tracker, self._run_folder = tracker, run_folder
        self._logger: Any = None
        self._has_failed = False

    def log_hyperparams(self, params: Mapping[str, str]) -> None:
        """Log settings."""
        self._attempt(lambda logger: logger.log_hyperparams(dict(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at an optimizer step."""
        self._attempt(lambda logger: logger.log_metrics(dict(metrics), step))

    def log_image(self, key: str, path: Path, step: int) -> None:
        """Log an image file at an optimizer step."""
        match self._tracker:
            case TensorBoard():
                pixels = np.asarray(Image.open(path).convert("RGB"))
                self._attempt(lambda logger: logger.experiment.add_image(key, pixels, step, dataformats="HWC"))
            case WeightsAndBiases():
                self._attempt(lambda logger: logger.log_image(key, [str(path)], step=step))
            case _:
                assert_never(self._tracker)

    def finalize(self, status: str) -> None:
        """Write the remaining data at the end of the run. Logging may continue afterward."""
        if self._logger is None:
            return
        self._attempt(lambda logger: logger.finalize(status))
        match self._tracker:
            case TensorBoard():
                self._attempt(lambda logger: logger.experiment.close())
            case WeightsAndBiases():
                self._attempt(lambda logger: logger.experiment.finish(exit_code=int(status != "success")))
            case _:
                assert_never(self._tracker)
        self._logger = None

    def _attempt(self, action: Callable[[Any], None]) -> None:
        """Call a function with the logger, unless an earlier call has failed. Report the first failure."""
        if self._has_failed:
            return
        try:
            if self._logger is None:
                self._logger = _build(self._tracker, self._run_folder)
            action(self._logger)
        except Exception as error:  # every program raises different exceptions
            self._has_failed = True
            reason = one_line(mask(f"{type(error).__name__}: {error}"))
            _log.warning("tracking.also: %s failed, so nothing more is logged to it: %s", self._tracker.kind, reason)


def _build(tracker: OtherTracker, run_folder: Path) -> Any:
    match tracker:
        case TensorBoard():
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(run_folder, name="", version="tensorboard", default_hp_metric=False)
        case WeightsAndBiases():
            import wandb
            from lightning.pytorch.loggers import WandbLogger

            name = f"{run_folder.parent.name}/{run_folder.name}"
            return WandbLogger(
                name=name,
                save_dir=run_folder,
                # With the same ID, a resumed run continues the existing run in Weights & Biases.
                id=name.replace("/", "-"),
                resume="allow",
                project=tracker.project,
                entity=tracker.entity,
                offline=tracker.mode == "offline",
                # wandb neither prints messages nor uploads the console output.
                settings=wandb.Settings(console="off", silent=True),
            )
        case _:
            assert_never(tracker)
