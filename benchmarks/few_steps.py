r"""Score few-step models and the networks that they were distilled from, and show their images in a grid.

    python benchmarks/few_steps.py "28 steps=knowledge_distill:28" "4 steps=knowledge_distill:4:1:euler" \
        "DMD=step_distill/dmd-0,step_distill/dmd-1" "K-DMD=step_distill/k-0,step_distill/k-1" --grid few_steps.png

An entry is LABEL=RUN[,RUN ...][:STEPS[:GUIDANCE[:SAMPLER]]]. Omitted settings default to the run's own sampling
settings. If an entry has several runs (seeds), the table shows their mean and standard deviation. Every entry is
compared with the first one. The images are judged with GenEval's logic, but by rules for rendered scenes, so the scores
are not GenEval scores.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from tabulate import tabulate

from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError, UserError
from pocketdit.files import write_atomically

METRIC = "geneval (scene-rules)"
FORM = "LABEL=RUN[,RUN ...][:STEPS[:GUIDANCE[:SAMPLER]]]"
_NUMBER = r"\d+(\.\d+)?"
_PATTERN = re.compile(
    r"(?P<label>[^=]+)=(?P<runs>[^:,]+(,[^:,]+)*)"
    rf"(:(?P<steps>[1-9]\d*)(:(?P<guidance>{_NUMBER})(:(?P<sampler>{'|'.join(get_args(SamplerName))}))?)?)?"
)

Scores = dict[float, list[float]]  # for each width, one score per run


@dataclass(frozen=True)
class Entry:
    """Runs that are compared under one label. If a setting is None, each run uses its own."""

    label: str
    runs: tuple[str, ...]
    steps: int | None
    guidance: float | None
    sampler: SamplerName | None = None


def parse_entry(text: str) -> Entry:
    """Parse a command-line entry.

    Raises:
        ConfigError: The text is not a valid entry.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r}: expected {FORM}")
    steps, guidance = match["steps"], match["guidance"]
    return Entry(
        label=match["label"],
        runs=tuple(match["runs"].split(",")),
        steps=int(steps) if steps else None,
        guidance=float(guidance) if guidance else None,
        sampler=cast(SamplerName | None, match["sampler"]),
    )


def score_entry(entry: Entry, widths: Sequence[float], count: int, runs: Path, out: Path) -> Scores:
    """Return, for each width, the overall scores of the entry's runs, in the order of the runs."""
    from evaluation.metrics.geneval.metric import GenEval
    from evaluation.prompts.scenes import SceneGenEval
    from evaluation.scenes.judges.colors import SceneColorReader
    from evaluation.scenes.judges.detector import SceneDetector
    from evaluation.subjects.run import Run

    metric = GenEval("geneval", SceneDetector(), SceneColorReader())
    prompts = SceneGenEval(count).load()
    scores: Scores = {width: [] for width in widths}
    for run in entry.runs:
        for width in widths:
            subject = Run(run, width, entry.steps, entry.guidance, entry.sampler, runs=runs)
            result = metric.score(subject.images(prompts, out / "images"))
            assert result.metric == METRIC
            scores[width].append(result.scores["overall"].value)
    return scores


def scores_table(entries: Sequence[Entry], scores: Sequence[Scores]) -> str:
    """Tabulate each entry's scores at each width: mean, standard deviation, and ratio to the first entry."""
    widths = list(scores[0])
    rows = []
    for entry, by_width in zip(entries, scores, strict=True):
        cells = []
        for width in widths:
            values = by_width[width]
            mean = statistics.mean(values)
            deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            first = statistics.mean(scores[0][width])
            ratio = f" ({mean / first:.2f})" if entry is not entries[0] and first else ""
            cells.append(f"{mean:.3f}{deviation}{ratio}")
        rows.append([entry.label, *cells])
    text = tabulate(
        rows,
        headers=["", *(f"{width:g}x" for width in widths)],
        disable_numparse=True,
        colalign=("left", *["right"] * len(widths)),
    )
    return f"{METRIC}, overall\n{text}"


def save_grid(entries: Sequence[Entry], widths: Sequence[float], runs: Path, path: Path) -> None:
    """Save a grid of images with one row per width and entry.

    Each entry is represented by its first run. All entries sample the prompts of the first entry's first run.
    """
    import torch

    from evaluation.subjects.sampling import device
    from pocketdit.artifacts.network import load_network
    from pocketdit.artifacts.run_folder import find, load_experiment
    from pocketdit.images import to_uint8
    from pocketdit.running.assemble import build_encoders
    from pocketdit.running.grids import image_grid
    from pocketdit.sampling import sample

    prompts = load_experiment(find(runs, entries[0].runs[0])).sampling.prompts
    rows, labels = [], []
    loaded: list[tuple[Entry, Any, Any, Any]] = []
    for entry in entries:
        folder = find(runs, entry.runs[0])
        experiment = load_experiment(folder)
        own = experiment.sampling
        sampling = replace(
            own,
            steps=own.steps if entry.steps is None else entry.steps,
            guidance=own.guidance if entry.guidance is None else entry.guidance,
            sampler=entry.sampler or own.sampler,
            prompts=prompts,
        )
        target = torch.device(device())
        loaded.append((entry, load_network(folder, target), build_encoders(experiment).to(target), sampling))
    for width in widths:
        for entry, network, encoders, sampling in loaded:
            rows.append(to_uint8(sample(network, encoders, prompts, width, sampling)))
            labels.append(f"{width:g}x {entry.label}")
    image = image_grid(rows, labels, prompts)
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="+", metavar="ENTRY", help=FORM)
    parser.add_argument(
        "--width", type=float, nargs="+", default=[0.375, 0.5, 1.0], help="widths to compare (default: 0.375 0.5 1)"
    )
    parser.add_argument("--count", type=int, default=240, help="number of prompts (default: %(default)s)")
    parser.add_argument("--grid", type=Path, help="also save images for the first run's prompts to this PNG file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("evaluations"), help="folder for the sampled images (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        entries = [parse_entry(text) for text in args.entries]
        if args.count < 1:
            raise ConfigError(f"--count {args.count}: must be at least 1")
        scores = [score_entry(entry, args.width, args.count, args.runs, args.out) for entry in entries]
        print(scores_table(entries, scores))
        if args.grid:
            save_grid(entries, args.width, args.runs, args.grid)
            print(args.grid)
    except UserError as error:
        print(f"few_steps: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
