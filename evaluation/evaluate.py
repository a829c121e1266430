"""Implements ``lightning evaluate``, which samples images, computes every metric on them, and writes a report."""

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.contract import ImageSet, PromptSet, Result
from evaluation.metrics.compbench.categories import BENCHMARK, COLUMNS
from evaluation.metrics.compbench.metric import overall
from evaluation.optional import PromptCheck
from evaluation.report import page, results
from evaluation.report.paper_tables import base_name
from evaluation.report.tables import results_table
from evaluation.run_scores import log_scores_of_run
from evaluation.score_cache import score
from evaluation.settings import Evaluation
from evaluation.subjects.image_cache import check_ids, fingerprint, rank_from_environment
from evaluation.subjects.run import Run
from evaluation.tracking import track
from pocketdit.config.component import Component, build
from pocketdit.config.load import Loaded
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from pocketdit.tracking.target import absolute_uri


def evaluate(loaded: Loaded[Evaluation], tags: Mapping[str, str] | None = None) -> Path | None:
    """Run an evaluation.

    Args:
        loaded: The configuration.
        tags: MLflow tags in addition to the evaluation's own.

    Returns:
        Folder of the report, or None on ranks other than 0, which only sample images.

    Raises:
        ConfigError: The tracking URI is invalid, the folder ``out`` cannot be created, or a metric cannot score its
            prompt set.
    """
    settings, start = loaded.config, time.time()
    absolute_uri(settings.tracking.uri)  # reports an invalid URI now rather than after sampling
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {settings.out} cannot be created ({error.strerror})") from error
    subject = build(settings.subject)
    prompt_sets: dict[str, PromptSet] = {
        name: build(component).load() for name, component in _used_prompts(settings).items()
    }
    for prompts in prompt_sets.values():
        check_ids(prompts)
    rank = rank_from_environment()
    if rank.index == 0:
        for component in settings.metrics:
            # Missing judge files and unsuitable prompts are reported now rather than after hours of sampling.
            metric = build(component)
            if isinstance(metric, PromptCheck) and _prompts_of(component) in prompt_sets:
                metric.check_prompts(prompt_sets[_prompts_of(component)])
    images: dict[str, ImageSet] = {
        name: subject.images(prompts, settings.out / "images") for name, prompts in prompt_sets.items()
    }
    if rank.index > 0:
        return None
    image_sets = [images.get(_prompts_of(component)) for component in settings.metrics]
    scored = [
        score(component, image_set, settings.out / "scored")
        for component, image_set in zip(settings.metrics, image_sets, strict=True)
    ]
    scored += _derived(scored)
    image_sets += [None] * (len(scored) - len(image_sets))
    provenance = {name: dict(image_set.provenance) for name, image_set in images.items()}
    report = results.Report(settings.evaluation, subject.name, tuple(scored), provenance)
    folder = _report_folder(loaded, report, images, image_sets)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.yaml", loaded.to_yaml())
    results.save(report, folder, settings.resamples)
    page.write_html(report, image_sets, folder, settings.resamples)
    print(results_table(report, settings.resamples))
    track(settings, report, folder, tags or {}, start)
    if isinstance(subject, Run):
        log_scores_of_run(subject, report.results, settings)
    return folder


def _prompts_of(metric: Component) -> Any:
    """Return the key of the prompt set whose images a metric scores, or None."""
    return metric.init_args.get("prompts")


def _used_prompts(settings: Evaluation) -> dict[str, Component]:
    """Return the prompt sets that at least one metric scores."""
    used = {_prompts_of(metric) for metric in settings.metrics}
    return {name: component for name, component in settings.prompts.items() if name in used}


def _derived(scored: Sequence[Result]) -> list[Result]:
    """Return T2I-CompBench's overall result in a list, which is empty unless every column has exactly one result."""
    columns = [
        result for result in scored if base_name(result) == BENCHMARK and result.protocol.get("category") in COLUMNS
    ]
    is_complete = sorted(result.protocol["category"] for result in columns) == sorted(COLUMNS)
    return [overall(columns)] if is_complete else []


def _report_folder(
    loaded: Loaded[Evaluation],
    report: results.Report,
    images: Mapping[str, ImageSet],
    image_sets: Sequence[ImageSet | None],
) -> Path:
    """Return the report's folder, named after the subject and a hash of its settings and results.

    Later scores that differ, such as those of a changed judge, are therefore never added to the same folder or MLflow
    run. The values of metrics without images are not hashed, because they are measured anew every time and vary in the
    last digits.
    """
    settings = loaded.config
    prompts = {name: dataclasses.asdict(image_set.prompts) for name, image_set in images.items()}
    outcomes = [
        dataclasses.asdict(result) if image_set is not None else result.protocol
        for result, image_set in zip(report.results, image_sets, strict=True)
    ]
    digest = fingerprint([report.made, plain(settings)["metrics"], prompts, settings.resamples, outcomes])[:8]
    slug = re.sub(r"[^\w.-]+", "_", report.subject)
    return settings.out / settings.evaluation / f"{slug}-{digest}"
