"""Score a run on held-out scene captions with the rule-based judge, at every width.

    python -m evaluation.scenes.score RUN [--count 240] [--steps 20] [--width 0.5 1]

The judge only knows the project's rendered scenes. Its accuracies are not GenEval scores.
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
from tabulate import tabulate
from tqdm import tqdm

from evaluation.scenes.judges.judge import judge_image
from evaluation.scenes.prompts.held_out import held_out_prompts
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError, UserError
from pocketdit.files import write_atomically
from pocketdit.images import to_uint8
from pocketdit.running.assemble import build_encoders
from pocketdit.running.grids import image_grid
from pocketdit.sampling import sample

BATCH_SIZE = 24
GRID_COLUMNS = 12


def score_run(
    folder: RunFolder, count: int, seed: int, widths: Sequence[float] | None, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Sample images for held-out prompts and judge them.

    Writes ``scene_score.json`` and ``samples/scene_score.png`` (a grid of images, framed in green or red by their
    verdict) into the run's folder.

    Args:
        folder: The run.
        count: Number of prompts.
        seed: Seed of the choice of prompts.
        widths: Sub-networks to score. All widths of the backbone if None.
        overrides: Fields of ``Sampling`` that replace those of the run.

    Returns:
        The accuracy per width and prompt tag, with the settings that produced it.
    """
    experiment = load_experiment(folder)
    prompts = held_out_prompts(count, seed)
    texts = tuple(prompt["prompt"] for prompt in prompts)
    sampling = dataclasses.replace(experiment.sampling, prompts=texts, **overrides)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, encoders = load_network(folder, device), build_encoders(experiment).to(device)
    result: dict[str, Any] = {
        "judge": "rule-based judge for rendered scenes (evaluation/scenes/judges/judge.py); not GenEval",
        "run": folder.name,
        "prompts": {"count": count, "seed": seed, "split": "validation captions, absent from training"},
        "sampling": {k: v for k, v in dataclasses.asdict(sampling).items() if k != "prompts"},
        "widths": {},
    }
    same_size = [i for i, prompt in enumerate(prompts) if (prompt["height"], prompt["width"]) == sampling.size]
    shown = same_size[:: max(1, len(same_size) // GRID_COLUMNS)][:GRID_COLUMNS]
    rows, labels = [], []
    widths = sorted(widths or experiment.backbone.widths)
    progress = tqdm(total=len(widths) * count, desc="scoring", unit="image", mininterval=5, file=sys.stderr)
    for width in widths:
        images = sample_prompts(network, encoders, prompts, width, sampling, progress)
        verdicts = [judge_image(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        result["widths"][f"{width:g}"] = accuracy_by_tag(prompts, [verdict.correct for verdict in verdicts])
        rows.append(torch.stack([draw_frame(images[i], verdicts[i].correct) for i in shown]))
        labels.append(f"{width:g}x")
    progress.close()
    image = image_grid(rows, labels, [texts[i] for i in shown])
    write_atomically(folder.samples / "scene_score.png", lambda path: image.save(path, format="PNG"))
    write_atomically(folder.path / "scene_score.json", json.dumps(result, indent=1))
    return result


def sample_prompts(
    network: Network,
    encoders: Encoders,
    prompts: Sequence[dict[str, Any]],
    width: float,
    sampling: Sampling,
    progress: tqdm,
) -> list[np.ndarray]:
    """Sample one uint8 image (H, W, 3) per prompt, at the prompt's own size and in the order of the prompts."""
    images: dict[int, np.ndarray] = {}
    sizes = sorted({(prompt["height"], prompt["width"]) for prompt in prompts})
    for size in sizes:
        rows = [i for i, prompt in enumerate(prompts) if (prompt["height"], prompt["width"]) == size]
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            texts = [prompts[i]["prompt"] for i in batch]
            sampled = to_uint8(sample(network, encoders, texts, width, dataclasses.replace(sampling, size=size)))
            channels_last = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in sampled]
            images |= dict(zip(batch, channels_last, strict=True))
            progress.update(len(batch))
    return [images[i] for i in range(len(prompts))]


def draw_frame(image: np.ndarray, correct: bool) -> torch.Tensor:
    """Return the image as (3, H, W) with a border that is green if the judge accepted it and red otherwise."""
    image = image.copy()
    for edge in (np.s_[:3], np.s_[-3:], np.s_[:, :3], np.s_[:, -3:]):
        image[edge] = (0, 160, 0) if correct else (220, 0, 0)
    return torch.from_numpy(image).permute(2, 0, 1)


def accuracy_by_tag(prompts: Sequence[dict[str, Any]], correct: Sequence[bool]) -> dict[str, dict[str, float]]:
    """Return the number of prompts, the accuracy and its standard error for each tag and for "all"."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for prompt, is_correct in zip(prompts, correct, strict=True):
        groups[prompt["tag"]].append(is_correct)
        groups["all"].append(is_correct)
    accuracies = {tag: sum(group) / len(group) for tag, group in groups.items()}
    return {
        tag: {
            "prompts": len(group),
            "correct": accuracies[tag],
            "error": math.sqrt(accuracies[tag] * (1 - accuracies[tag]) / len(group)),
        }
        for tag, group in groups.items()
    }


def format_table(result: dict[str, Any]) -> str:
    """Return the accuracies as a text table with one row per width."""
    widths: dict[str, Any] = result["widths"]
    tags = next(iter(widths.values()))
    rows = [[width, *(accuracies[tag]["correct"] for tag in tags)] for width, accuracies in widths.items()]
    return tabulate(rows, ["width", *(f"{tag} ({tags[tag]['prompts']})" for tag in tags)], floatfmt=("g", *[".2f"] * 9))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.scenes.score", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a path, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    parser.add_argument("--count", type=int, default=240, help="number of held-out prompts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of prompts (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: those of the run)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: that of the run)")
    parser.add_argument("--width", type=float, nargs="+", help="widths to score (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    args = parser.parse_args(arguments)
    overrides = {name: getattr(args, name) for name in ("steps", "guidance") if getattr(args, name) is not None}
    try:
        if args.count < GRID_COLUMNS:
            raise ConfigError(f"--count {args.count}: must be at least {GRID_COLUMNS}")
        result = score_run(find(args.runs, args.run), args.count, args.seed, args.width, overrides)
    except ValueError as error:
        print(f"scene_score: {error}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"scene_score: {error}", file=sys.stderr)
        return error.status
    print(format_table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
