"""Few-step models beside the networks that they come from: GenEval's logic on drawn scenes, and one grid of pictures.

    python -m benchmarks.few_steps "28 steps=knowledge_distill:28" "4 steps=knowledge_distill:4:1:euler" \\
        "DMD=step_distill/dmd-0,step_distill/dmd-1" "K-DMD=step_distill/k-0,step_distill/k-1" --grid few_steps.png

LABEL=RUN[,RUN ...][:STEPS[:GUIDANCE[:SAMPLER]]]; what is not told is as the run's own sampling. Several runs of a
label (seeds) give their mean and standard deviation. The first label is what the others are compared with. The judge
is the stand-in for drawn scenes: these are no GenEval scores.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pocketdit.errors import ConfigError, UserError
from pocketdit.files import write_atomically

METRIC = "geneval (scene-rules)"
Sampler = Literal["euler", "heun", "dpmpp_2m"]
NUMBER = r"\d+(\.\d+)?"
FORM = re.compile(
    r"(?P<label>[^=]+)=(?P<runs>[^:,]+(,[^:,]+)*)"
    rf"(:(?P<steps>[1-9]\d*)(:(?P<guidance>{NUMBER})(:(?P<sampler>euler|heun|dpmpp_2m))?)?)?"
)


@dataclass(frozen=True)
class Entry:
    """What is compared under one label. None: as each run's own sampling."""

    label: str
    runs: tuple[str, ...]
    steps: int | None
    guidance: float | None
    sampler: Sampler | None = None


def parse(text: str) -> Entry:
    """Raises ``ConfigError`` unless it reads LABEL=RUN[,RUN ...][:STEPS[:GUIDANCE[:SAMPLER]]]."""
    found = FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r}: expected LABEL=RUN[,RUN ...][:STEPS[:GUIDANCE[:SAMPLER]]]")
    steps, guidance = found["steps"], found["guidance"]
    runs = tuple(found["runs"].split(","))
    sampler = cast(Sampler | None, found["sampler"])
    return Entry(found["label"], runs, int(steps) if steps else None, float(guidance) if guidance else None, sampler)


def scores(entry: Entry, widths: Sequence[float], count: int, runs: Path, out: Path) -> dict[float, list[float]]:
    """Overall score of every run at every width, in the order of the runs."""
    from evaluation.metrics.geneval.metric import GenEval
    from evaluation.prompts.scenes import SceneGenEval
    from evaluation.scenes.judges.colors import SceneColorReader
    from evaluation.scenes.judges.detector import SceneDetector
    from evaluation.subjects.run import Run

    metric = GenEval("geneval", SceneDetector(), SceneColorReader())
    prompts = SceneGenEval(count).load()
    found: dict[float, list[float]] = {width: [] for width in widths}
    for run in entry.runs:
        for width in widths:
            subject = Run(run, width, entry.steps, entry.guidance, entry.sampler, runs=runs)
            result = metric.score(subject.images(prompts, out / "images"))
            assert result.metric == METRIC
            found[width].append(result.scores["overall"].value)
    return found


def table(entries: Sequence[Entry], found: Sequence[dict[float, list[float]]]) -> str:
    """A row a label: every width's score (mean, and standard deviation of several), and its share of the first's."""
    widths = list(found[0])
    margin = max(len(entry.label) for entry in entries) + 2
    rows = [f"{METRIC}, overall", "".ljust(margin) + "".join(f"{width:g}x".rjust(26) for width in widths)]
    for entry, by_width in zip(entries, found, strict=True):
        cells = []
        for width in widths:
            values = by_width[width]
            mean = statistics.mean(values)
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            first = statistics.mean(found[0][width])
            share = f" ({mean / first:.2f})" if entry is not entries[0] and first else ""
            cells.append(f"{mean:.3f}{spread}{share}".rjust(26))
        rows.append(entry.label.ljust(margin) + "".join(cells))
    return "\n".join(rows)


def draw_grid(entries: Sequence[Entry], widths: Sequence[float], runs: Path, path: Path) -> None:
    """A row for every label and width, by the first run of each; prompts are the first entry's own."""
    import dataclasses

    import torch

    from evaluation.subjects.sampling import device
    from pocketdit.artifacts.network import load_network
    from pocketdit.artifacts.run_folder import find, load_experiment
    from pocketdit.running.assemble import build_encoders
    from pocketdit.images import to_uint8
    from pocketdit.running.grids import image_grid
    from pocketdit.sampling import sample

    prompts = load_experiment(find(runs, entries[0].runs[0])).sampling.prompts
    rows, labels = [], []
    loaded: list[tuple[Entry, Any, Any, Any]] = []
    for entry in entries:
        folder = find(runs, entry.runs[0])
        experiment = load_experiment(folder)
        told = {"steps": entry.steps, "guidance": entry.guidance, "sampler": entry.sampler, "prompts": prompts}
        how = dataclasses.replace(experiment.sampling, **{k: v for k, v in told.items() if v is not None})
        place = torch.device(device())
        loaded.append((entry, load_network(folder, place), build_encoders(experiment).to(place), how))
    for width in widths:
        for entry, network, encoders, how in loaded:
            rows.append(to_uint8(sample(network, encoders, prompts, width, how)))
            labels.append(f"{width:g}x {entry.label}")
    picture = image_grid(rows, labels, prompts)
    write_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_steps", description=__doc__.splitlines()[0])
    parser.add_argument("entries", nargs="+", metavar="LABEL=RUN[,RUN][:STEPS[:GUIDANCE[:SAMPLER]]]")
    parser.add_argument("--width", type=float, nargs="+", default=[0.375, 0.5, 1.0])
    parser.add_argument("--count", type=int, default=240, help="prompts (default %(default)s)")
    parser.add_argument("--grid", type=Path, help="also draw the run's own prompts into this PNG")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("evaluations"))
    args = parser.parse_args(arguments)
    try:
        entries = [parse(text) for text in args.entries]
        if args.count < 1:
            raise ConfigError(f"--count {args.count}: must be at least 1")
        found = [scores(entry, args.width, args.count, args.runs, args.out) for entry in entries]
        print(table(entries, found))
        if args.grid:
            draw_grid(entries, args.width, args.runs, args.grid)
            print(args.grid)
    except UserError as error:
        print(f"few_steps: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
