"""Adds the scores of an evaluation to the evaluated run in MLflow, where runs can be compared in one table.

The names of the scores contain only characters that MLflow preserves. For example, ``geneval scene-rules 0.5x`` is the
overall score of a metric at width 0.5, and ``geneval scene-rules/counting 0.5x`` is the score of one category.
"""

import math
from collections.abc import Sequence

from evaluation.contract import Result
from evaluation.report.results import named, plain_name
from evaluation.settings import Evaluation
from evaluation.subjects.run import Run
from pocketdit.artifacts import run_folder
from pocketdit.config.declared import latent_sides, text_lengths
from pocketdit.errors import RunError
from pocketdit.latency.devices import find_device
from pocketdit.latency.ladder import DEVICE
from pocketdit.latency.predict import predict
from pocketdit.latency.traced_census import trace_census
from pocketdit.tracking import journal, target
from pocketdit.tracking.sync import sync
from pocketdit.training.cost import parameters_by_width

MAIN = "overall"


def log_scores_of_run(subject: Run, results: Sequence[Result], settings: Evaluation) -> None:
    """Add scores, parameters, and predicted latency to the journal of the evaluated run, and send them to MLflow.

    A run that is being trained, that was tracked elsewhere, or whose folder is read-only is left unchanged, and a note
    is printed.
    """
    folder = subject.folder
    try:
        stored = target.load(folder.path)
        if stored is None or stored.uri != target.absolute_uri(settings.tracking.uri):
            where = "is not tracked" if stored is None else f"is tracked at {stored.uri}"
            raise RunError(f"{folder.name} {where}")
        values = run_columns(results, subject.width) | cost_columns(subject)
        with run_folder.lock(folder):
            log = journal.Journal(folder.path / journal.FILE_NAME, repeats_steps=False)
            log.log_metrics(values, step=folder.finished_steps())
            log.close()
        sync(folder.path, settings.tracking.uri)
    except (RunError, OSError) as error:
        print(f"note: the scores were not added to the run in MLflow: {error}")


def run_columns(results: Sequence[Result], width: float) -> dict[str, float]:
    """Return a mapping from the names under which a run logs its scores to the scores that are finite."""
    columns = {}
    for metric, result in named(results):
        for name, score in result.scores.items():
            is_main = name == MAIN or len(result.scores) == 1
            label = metric if is_main else f"{metric}/{plain_name(name)}"
            if math.isfinite(score.value):
                columns[f"{label} {width:g}x"] = score.value
    return columns


def cost_columns(subject: Run) -> dict[str, float]:
    """Return the number of parameters, the size of the weights and the predicted latency of the evaluated width.

    For a quantized run, the size is that of the palettes. Otherwise, it is that of the weights in fp16. The latency of
    a sampling step is predicted for the calibrated device (pocketdit/latency). The latency is left out if the network
    has no mobile form.
    """
    spec, width = subject.experiment.backbone, subject.width
    parameters = parameters_by_width(spec)[width]
    palettes = subject.folder.palettes
    size = palettes.stat().st_size if palettes.is_file() else 2 * parameters
    columns = {f"parameters M {width:g}x": parameters / 1e6, f"size MB {width:g}x": size / 1e6}
    sides = latent_sides(subject.experiment.autoencoder, subject.sampling.size)
    tokens = sum(text_lengths(subject.experiment.text_encoders)) + 1
    try:
        census = trace_census(spec, width, sides, tokens)
    except (ValueError, AssertionError):  # an unsupported size, or a type of attention without a mobile form
        return columns
    return columns | {f"predicted ms per step {width:g}x": predict(census, find_device(DEVICE)).milliseconds}
