"""Implements ``lightning recommend``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketdit.latency.quality import EvaluatedScore


def add_recommend(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``recommend`` subcommand to the parser."""
    recommend = subparsers.add_parser(
        "recommend",
        help="recommend a width, sampling steps, bits per weight and a format within limits on latency and memory",
        description="Recommend the width, the number of sampling steps, the bits per weight and the format with the "
        "best recorded quality within the limits. A table shows why the other candidates were not chosen.",
    )
    recommend.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="run=RUN, device=iphone16promax, and at least one limit: budget=400ms (per sampling step, including "
        "guidance), image=2s (all steps and the decoder) or memory=1.5GB; optionally metric=NAME, size=1024x1024 "
        "and format=coreml",
    )  # fmt: skip
    recommend.set_defaults(call=call_recommend)


def call_recommend(args: argparse.Namespace) -> None:
    """Read the results of all evaluations and recommend an operating point."""
    from pocketdit.config.arguments import parse_settings
    from pocketdit.latency.settings import Recommend

    settings = parse_settings(args.overrides, Recommend)
    from pocketdit.export.coreml.dependency import silence_coremltools
    from pocketdit.latency.recommend import recommend

    silence_coremltools()
    recommend(settings, read_scores(settings.evaluations))


def read_scores(folder: Path) -> list["EvaluatedScore"]:
    """Read the overall scores from all evaluation results in a folder, oldest first."""
    from evaluation.report import results
    from pocketdit.latency.quality import EvaluatedScore

    files = sorted(folder.rglob("results.json"), key=lambda file: file.stat().st_mtime)
    return [
        EvaluatedScore(
            report.evaluation, result.metric, result.higher_is_better, overall.value, overall.samples, report.made
        )
        for report in map(results.load, files)
        for result in report.results
        if (overall := result.scores.get("overall"))
    ]
