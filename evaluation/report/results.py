"""The results of an evaluation, their confidence intervals, and the file results.json."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from evaluation.contract import Result, Score
from evaluation.report.statistics import bootstrap_interval, stratified_interval, varies
from pocketdit.errors import UserError
from pocketdit.files import write_atomically

SCHEMA = 1
FILE_NAME = "results.json"


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        evaluation: Name of the evaluation.
        subject: Name of the subject.
        results: One result per metric.
        made: Provenance of the images by prompt set.
    """

    evaluation: str
    subject: str
    results: tuple[Result, ...]
    made: Mapping[str, Any]


def interval(result: Result, name: str, resamples: int = 1000) -> tuple[float, float] | None:
    """Return the 95% bootstrap confidence interval of a score over its prompts.

    If the overall score is the mean of categories that partition the prompts, prompts are resampled within their
    categories, because the benchmark fixes the number of prompts per category.

    Returns:
        The interval, or None if the score has no values by prompt, if it is not a mean of them, or if they are all
        equal, because resampling then cannot estimate how much other prompts would vary.
    """
    score = result.scores[name]
    if len(score.by_prompt) < 2:
        return None
    parts = [part for other, part in result.scores.items() if other != name] if name == "overall" else []
    prompts = [prompt for part in parts for prompt in part.by_prompt]
    # Not all parts partition the prompts. For example, each noise level contains all of them.
    if parts and all(part.by_prompt for part in parts) and sorted(prompts) == sorted(score.by_prompt):
        categories = [list(part.by_prompt.values()) for part in parts]
        if _is_value(fmean(map(fmean, categories)), score):
            return _if_it_varies(stratified_interval(categories, resamples=resamples))
    if _is_value(fmean(score.by_prompt.values()), score):
        return _if_it_varies(bootstrap_interval(list(score.by_prompt.values()), resamples=resamples))
    return None


def _if_it_varies(bounds: tuple[float, float]) -> tuple[float, float] | None:
    return bounds if varies(bounds) else None


def _is_value(mean: float, score: Score) -> bool:
    return math.isclose(mean, score.value, rel_tol=1e-9, abs_tol=1e-12)


def format_interval(bounds: tuple[float, float] | None) -> str:
    """Format an interval for tables, or return "-" for None."""
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"


def save(report: Report, folder: Path, resamples: int) -> Path:
    """Write results.json, which ``load`` reads, and return its path."""
    content: dict[str, Any] = {"schema": SCHEMA, **asdict(report)}
    for entry, result in zip(content["results"], report.results, strict=True):
        for name in result.scores:
            entry["scores"][name]["interval_95"] = interval(result, name, resamples)
    return write_atomically(folder / FILE_NAME, json.dumps(content, indent=1, default=str) + "\n")


def load(path: Path) -> Report:
    """Read results.json from its path or its folder.

    Raises:
        UserError: The file cannot be read, or does not contain results of this schema.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        data = json.loads(file.read_text())
        if data.get("schema") != SCHEMA:
            raise UserError(f"{file}: results have schema {data.get('schema')}, but this version reads {SCHEMA}")
        results = tuple(result_from_json(entry) for entry in data["results"])
        return Report(data["evaluation"], data["subject"], results, data["made"])
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); run the evaluation first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not results of an evaluation ({error})") from error


def load_all(folder: Path) -> list[Report]:
    """Read all results.json files below a folder, from the oldest to the newest.

    Raises:
        UserError: A file cannot be read, or does not contain results of this schema.
    """
    files = sorted(folder.rglob(FILE_NAME), key=lambda file: file.stat().st_mtime)
    return [load(file) for file in files]


def result_from_json(entry: Mapping[str, Any]) -> Result:
    """Restore a result from the output of ``dataclasses.asdict``. Intervals in its scores are ignored."""
    scores = {
        name: Score(score["value"], score["samples"], score["by_prompt"]) for name, score in entry["scores"].items()
    }
    notes = tuple(entry.get("notes", ()))  # results of earlier versions have none
    return Result(entry["metric"], scores, entry["protocol"], entry["higher_is_better"], notes)


def identity(result: Result) -> tuple[str, ...]:
    """Return the metric, category and prompt set, which distinguish a result from the others in its report."""
    keys = ("category", "prompt_set", "prompts")
    return (result.metric, *(value for key in keys if isinstance(value := result.protocol.get(key), str)))


def summary(results: Sequence[Result]) -> dict[str, float]:
    """Return {"metric/score": value} for MLflow, without non-finite values.

    The name includes the category and the prompt set if a metric occurs more than once.
    """
    names = [result.metric for result in results]
    labels = [" ".join(identity(result)) if names.count(result.metric) > 1 else result.metric for result in results]
    return {
        f"{label}/{name}": score.value
        for label, result in zip(labels, results, strict=True)
        for name, score in result.scores.items()
        if np.isfinite(score.value)
    }
