"""The results of an evaluation, their confidence intervals, and the file results.json."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.contract import Result, Score
from evaluation.report.statistics import strata, stratified_interval, varies
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
        made: Mapping from prompt sets to the provenance of their images.
    """

    evaluation: str
    subject: str
    results: tuple[Result, ...]
    made: Mapping[str, Any]


def interval(result: Result, name: str, resamples: int = 1000) -> tuple[float, float] | None:
    """Return the 95% bootstrap confidence interval of a score over its prompts.

    Prompts are resampled within the groups that ``strata`` returns.

    Returns:
        The interval, or None if the score has no per-prompt values, if it is not a mean of them, or if they are all
        equal, because resampling then cannot estimate how much other prompts would vary.
    """
    values = result.scores[name].by_prompt
    groups = strata(result, name)
    if len(values) < 2 or groups is None:
        return None
    bounds = stratified_interval([[values[prompt] for prompt in group] for group in groups], resamples=resamples)
    return bounds if varies(bounds) else None


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
    """Read results.json, given its path or its folder.

    Raises:
        UserError: The file cannot be read, or does not contain results in the current schema.
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
        UserError: A file cannot be read, or does not contain results in the current schema.
    """
    files = sorted(folder.rglob(FILE_NAME), key=lambda file: file.stat().st_mtime)
    return [load(file) for file in files]


def result_from_json(entry: Mapping[str, Any]) -> Result:
    """Restore a result from the output of ``dataclasses.asdict``. Intervals in its scores are ignored.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: The entry is damaged.
    """
    scores = {
        name: Score(
            float(score["value"]),
            int(score["samples"]),
            {prompt: float(value) for prompt, value in score["by_prompt"].items()},
        )
        for name, score in entry["scores"].items()
    }
    notes = tuple(entry.get("notes", ()))  # results from earlier versions have no notes
    return Result(entry["metric"], scores, entry["protocol"], entry["higher_is_better"], notes)


def keyed(results: Sequence[Result]) -> dict[tuple[str, ...], Result]:
    """Return a mapping from keys (the metric, category and prompt set) to the results of a report.

    If several results have the same key, as for two prefixes of CLIP-Score, a number is appended to the key from the
    second result onward.
    """
    entries = ("category", "prompt_set", "prompts")
    keys: dict[tuple[str, ...], Result] = {}
    for result in results:
        key = (result.metric, *(value for name in entries if isinstance(value := result.protocol.get(name), str)))
        number = sum(other[: len(key)] == key for other in keys)
        keys[(*key, str(number + 1)) if key in keys else key] = result
    return keys


def named(results: Sequence[Result]) -> list[tuple[str, Result]]:
    """Return the results with distinct names that contain only characters that MLflow preserves.

    If the same metric occurs more than once, the whole key (see ``keyed``) replaces its name.
    """
    names = [result.metric for result in results]
    return [
        (plain_name(" ".join(key) if names.count(result.metric) > 1 else result.metric), result)
        for key, result in keyed(results).items()
    ]


def summary(results: Sequence[Result]) -> dict[str, float]:
    """Return {"metric/score": value} for MLflow, without non-finite values."""
    return {
        f"{metric}/{plain_name(name)}": score.value
        for metric, result in named(results)
        for name, score in result.scores.items()
        if np.isfinite(score.value)
    }


def plain_name(name: str) -> str:
    """Replace characters that MLflow does not preserve in names, or uses to divide names into groups, with spaces."""
    return " ".join(re.sub(r"[^\w. -]", " ", name).split())
