"""The study's own MLflow run, which MLflow shows as the parent of the trials' runs."""

import time
from collections.abc import Sequence
from pathlib import Path

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from pocketdit.tracking import target
from pocketdit.tracking.logger import RunLogger
from sweeps.settings import Sweep
from sweeps.storage.results import Candidate

# Importing mlflow takes seconds, and creating a new database takes a few more.
RESPONSE_SECONDS = 30.0


class ParentRun:
    """The study's own run, which is logged to the study's folder and to MLflow."""

    def __init__(self, loaded: Loaded[Sweep], experiment: Experiment) -> None:
        self.sweep: Sweep = loaded.config
        self.logger = RunLogger(self.sweep.folder, experiment.tracking.uri, experiment.tracking.project)
        self.logger.log_hyperparams(loaded.resolved)
        self.logger.log_tag("sweep", self.sweep.sweep)

    def run_id(self) -> str | None:
        """Wait for MLflow to create the run, and return its ID.

        Returns:
            None if MLflow does not respond in time. The trials' runs then have no parent.
        """
        deadline = time.monotonic() + RESPONSE_SECONDS
        while time.monotonic() < deadline:
            stored = target.load(self.logger.run_folder)
            if stored is not None and stored.run_id is not None:
                return stored.run_id
            time.sleep(0.1)
        return None

    def finish(self, best: Sequence[Candidate], plots: Sequence[Path]) -> None:
        """Log the best value of each objective, and the plots as artifacts."""
        for index, (name, objective) in enumerate(self.sweep.objectives.items()):
            values = [c.values[index] for c in best if c.values is not None]
            if values:
                best_value = min(values) if objective.direction == "minimize" else max(values)
                self.logger.log_metrics({f"objective/{name}": best_value}, 0)
        for path in plots:
            self.logger.log_artifact(path)
        self.logger.finalize("success")

    def interrupt(self) -> None:
        """Mark the run as interrupted."""
        self.logger.finalize("interrupted")
