"""What a trial does: train its configuration in this process, as ``lightning run`` would."""

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


class Pruned(Exception):
    """The trial is not worth going on with."""


class Lost(Exception):
    """The trial was given to another worker, because this one was silent for too long."""


class Watch(Protocol):
    """What a trial tells while it trains. Both raise ``Lost``, ``validated`` also ``Pruned``."""

    def stepped(self) -> None:
        """After every optimizer step."""

    def validated(self, steps: int, values: Mapping[str, float]) -> None:
        """After every validation, with what it logged."""


@dataclass(frozen=True)
class Job:
    """``name``: of the run below the experiment's folder; where that run exists it is gone on with. ``tags``: for
    MLflow. ``figures``: of objectives that are known already, ``logged``: the metrics that others are, by name.
    ``log``: where the run's own lines go."""

    loaded: Loaded[Experiment]
    name: str
    tags: Mapping[str, str]
    figures: Mapping[str, float]
    logged: Mapping[str, str]
    log: Path


class Train:
    """Call it with a job: the run trains, or goes on from its last checkpoint, to its ``training.max_steps``."""

    def __call__(self, job: Job, watch: Watch) -> Curves:
        """Every metric that the run has logged, as step (from 0) and value."""
        from pocketdit.artifacts.run_folder import RunFolder
        from pocketdit.running import fit
        from pocketdit.tracking.journal import metrics

        experiment = job.loaded.config
        folder = RunFolder(Path(experiment.runs) / experiment.experiment / job.name)
        begun = folder.config.is_file()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        gc.freeze()  # the libraries' own objects stay: to look through them takes as long as all else around a training
        try:
            with job.log.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
                fit.run(
                    job.loaded,
                    str(folder.path) if begun else None,
                    job.name,
                    allow_changes=False,
                    callbacks=[_telling(watch, job.figures, job.logged)],
                    tags=job.tags,
                )
        finally:
            gc.collect()  # a trainer and its modules refer to each other in circles
        return metrics(folder.metrics)


def _telling(watch: Watch, figures: Mapping[str, float], logged: Mapping[str, str]) -> "Callback":
    from lightning.pytorch import Callback, LightningModule, Trainer

    class Telling(Callback):
        """Tells a trial's watch how far it is, and the run's loggers the objectives under their own names."""

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for logger in trainer.loggers:
                logger.log_metrics({f"objective/{name}": value for name, value in figures.items()}, 0)

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            watch.stepped()

        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            known = {}
            for name, metric in logged.items():
                with suppress(KeyError):
                    known[f"objective/{name}"] = value_of(metric, values)
            for logger in trainer.loggers:
                logger.log_metrics(known, (trainer.global_step - 1) * trainer.accumulate_grad_batches)
            watch.validated(trainer.global_step, values)

    return Telling()
