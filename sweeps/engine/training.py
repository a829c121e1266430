"""Trains the model of a trial in the current process, as ``lightning run`` does."""

import gc
import logging
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from sweeps.metrics import Curves, value_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback


class PrunedTrialError(Exception):
    """The pruner ended the trial."""


class LostTrialError(Exception):
    """The trial no longer belongs to this worker, which failed to send a heartbeat in time."""


class Observer(Protocol):
    """Monitors the training of a trial.

    Both methods raise ``LostTrialError``; ``on_validation`` also raises ``PrunedTrialError``.
    """

    def on_step(self) -> None:
        """Called after every optimizer step."""

    def on_validation(self, steps: int, values: Mapping[str, float]) -> None:
        """Called after every validation with the number of optimizer steps and the logged metrics."""


@dataclass(frozen=True)
class Job:
    """A trial's configuration and the details of its run.

    Attributes:
        loaded: The trial's configuration.
        name: Name of the run in the experiment's folder. If the run exists, it is resumed.
        tags: Tags for MLflow.
        objective_values: Values of the objectives that are known before training, keyed by name.
        logged_objectives: For the name of each logged objective, its metric.
        log_file: File to which the run's output is appended.
    """

    loaded: Loaded[Experiment]
    name: str
    tags: Mapping[str, str]
    objective_values: Mapping[str, float]
    logged_objectives: Mapping[str, str]
    log_file: Path


class Train:
    """Trains a job's run to ``training.max_steps``, from the start or from its last checkpoint."""

    def __call__(self, job: Job, observer: Observer) -> Curves:
        """Train, and return the curves of all metrics that the run has logged."""
        from pocketdit.artifacts.run_folder import RunFolder
        from pocketdit.running import fit
        from pocketdit.tracking.journal import read_metrics

        experiment = job.loaded.config
        folder = RunFolder(Path(experiment.runs) / experiment.experiment / job.name)
        exists = folder.config.is_file()
        job.log_file.parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        # Exempt long-lived library objects from garbage collection. Scanning them would double a short run's overhead.
        gc.freeze()
        try:
            with job.log_file.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
                fit.run(
                    job.loaded,
                    str(folder.path) if exists else None,
                    job.name,
                    allow_changes=False,
                    callbacks=[_observer_callback(job, observer)],
                    tags=job.tags,
                )
        finally:
            gc.collect()  # a trainer and its modules form reference cycles
        return read_metrics(folder.metrics)


def _observer_callback(job: Job, observer: Observer) -> "Callback":
    from lightning.pytorch import Callback, LightningModule, Trainer

    class ObserverCallback(Callback):
        """Reports progress to the observer and logs each objective as ``objective/NAME``."""

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for logger in trainer.loggers:
                logger.log_metrics({f"objective/{name}": value for name, value in job.objective_values.items()}, 0)

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            observer.on_step()

        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            objectives = {}
            for name, metric in job.logged_objectives.items():
                with suppress(KeyError):
                    objectives[f"objective/{name}"] = value_of(metric, values)
            for logger in trainer.loggers:
                logger.log_metrics(objectives, (trainer.global_step - 1) * trainer.accumulate_grad_batches)
            observer.on_validation(trainer.global_step, values)

    return ObserverCallback()
