"""The study's own MLflow run, below which the trials' runs are shown."""

import time
from collections.abc import Sequence
from pathlib import Path

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from pocketdit.tracking import target
from pocketdit.tracking.logger import RunLogger
from sweeps.results import Candidate
from sweeps.settings import Sweep

# Importing mlflow takes seconds, a database that is new some more.
ANSWER_SECONDS = 30.0


class ParentRun:
    """Logs into the study's folder and to MLflow."""

    def __init__(self, loaded: Loaded[Sweep], experiment: Experiment) -> None:
        self.sweep: Sweep = loaded.config
        self.logger = RunLogger(self.sweep.folder, experiment.tracking.uri, experiment.tracking.project)
        self.logger.log_hyperparams(loaded.resolved)
        self.logger.log_tag("sweep", self.sweep.sweep)

    def run_id(self) -> str | None:
        """MLflow's name of it; None where MLflow does not answer in time: the trials are then not shown below it."""
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            stored = target.load(self.logger.run_folder)
            if stored is not None and stored.run_id is not None:
                return stored.run_id
            time.sleep(0.1)
        return None

    def finish(self, best: Sequence[Candidate], pictures: Sequence[Path]) -> None:
        """The best values, and pictures as artefacts."""
        for index, (name, objective) in enumerate(self.sweep.objectives.items()):
            values = [one.values[index] for one in best if one.values is not None]
            if values:
                best_value = min(values) if objective.direction == "minimize" else max(values)
                self.logger.log_metrics({f"objective/{name}": best_value}, 0)
        for path in pictures:
            self.logger.log_artifact(path)
        self.logger.finalize("success")

    def stop(self) -> None:
        self.logger.finalize("interrupted")
