"""Score a run's pictures of held-out scene captions by the rule-based judge, for every width.

    python -m evaluation.scene_score RUN [--count 240] [--steps 20] [--width 0.5 1]

The judge knows the project's drawn scenes and nothing else: its figures are no GenEval scores.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from elastic_dit.errors import ConfigError, UserError
from elastic_dit.files import write_atomically
from elastic_dit.sampling import sample
from elastic_dit.training.assemble import build_encoders, load_experiment, load_network
from elastic_dit.training.grids import grid, to_uint8
from elastic_dit.training.run_folder import RunFolder, find
from evaluation.scene_judge import judge
from evaluation.scene_prompts import held_out_prompts

BATCH = 24
SHOWN = 12


def score(
    folder: RunFolder, count: int, seed: int, widths: Sequence[float] | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """Share of correct pictures for every width and kind of prompt, with the settings that made them.

    Writes ``scene_score.json`` and ``samples/scene_score.png`` (a dozen pictures with their verdicts) into the run.
    """
    experiment = load_experiment(folder)
    prompts = held_out_prompts(count, seed)
    texts = tuple(prompt["prompt"] for prompt in prompts)
    how = dataclasses.replace(experiment.sampling, prompts=texts, **changes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, encoders = load_network(folder, device), build_encoders(experiment).to(device)
    result: dict[str, Any] = {
        "judge": "rule-based judge for drawn scenes (evaluation/scene_judge.py); not GenEval",
        "run": folder.name,
        "prompts": {"count": count, "seed": seed, "split": "validation captions, absent from training"},
        "sampling": {k: v for k, v in dataclasses.asdict(how).items() if k != "prompts"},
        "widths": {},
    }
    rows, labels = [], []
    chosen = sorted(widths or experiment.backbone.widths)
    bar = tqdm(total=len(chosen) * count, desc="judging", unit="picture", mininterval=5, file=sys.stderr)
    for width in chosen:
        pictures = []
        for first in range(0, count, BATCH):
            part = texts[first : first + BATCH]
            pictures.append(to_uint8(sample(network, encoders, part, width, how, batch_size=BATCH)))
            bar.update(len(part))
        images = torch.cat(pictures)
        verdicts = [
            judge(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), prompt)
            for image, prompt in zip(images, prompts, strict=True)
        ]
        result["widths"][f"{width:g}"] = by_tag(prompts, [verdict.correct for verdict in verdicts])
        shown = [round(i * (count - 1) / (SHOWN - 1)) for i in range(SHOWN)]
        rows.append(images[shown])
        marks = "".join("+" if verdicts[i].correct else "-" for i in shown)
        labels.append(f"{width:g}x {marks}")
    bar.close()
    picture = grid(rows, [label.split()[0] for label in labels], [texts[i] for i in shown])
    write_atomically(folder.samples / "scene_score.png", lambda path: picture.save(path, format="PNG"))
    write_atomically(folder.path / "scene_score.json", json.dumps(result, indent=1))
    return result


def by_tag(prompts: Sequence[dict[str, Any]], correct: Sequence[bool]) -> dict[str, dict[str, float]]:
    """For every tag and "all": number of prompts, share correct, and the share's standard error."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for prompt, right in zip(prompts, correct, strict=True):
        groups[prompt["tag"]].append(right)
        groups["all"].append(right)
    return {
        tag: {
            "prompts": len(rights),
            "correct": sum(rights) / len(rights),
            "error": math.sqrt(sum(rights) / len(rights) * (1 - sum(rights) / len(rights)) / len(rights)),
        }
        for tag, rights in groups.items()
    }


def table(result: dict[str, Any]) -> str:
    """The shares as text, a row a width."""
    widths: dict[str, Any] = result["widths"]
    tags = list(next(iter(widths.values())))
    counts = next(iter(widths.values()))
    head = "width  " + "  ".join(f"{tag} ({counts[tag]['prompts']})" for tag in tags)
    lines = [head]
    for width, shares in widths.items():
        cells = [f"{shares[tag]['correct']:.2f}".rjust(len(f"{tag} ({counts[tag]['prompts']})")) for tag in tags]
        lines.append(f"{width:<5}  " + "  ".join(cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.scene_score", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="path, EXPERIMENT/RUN, or EXPERIMENT for its latest")
    parser.add_argument("--count", type=int, default=240, help="held-out prompts (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of prompts")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--width", type=float, nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args(arguments)
    changes = {name: getattr(args, name) for name in ("steps", "guidance") if getattr(args, name) is not None}
    try:
        if args.count < SHOWN:
            raise ConfigError(f"--count {args.count}: must be at least {SHOWN}")
        result = score(find(args.runs, args.run), args.count, args.seed, args.width, changes)
    except ValueError as error:
        print(f"scene_score: {error}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"scene_score: {error}", file=sys.stderr)
        return error.status
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
