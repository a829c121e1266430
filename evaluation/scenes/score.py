"""Score a run's pictures of held-out scene captions by the rule-based judge, for every width.

    python -m evaluation.scenes.score RUN [--count 240] [--steps 20] [--width 0.5 1]

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

from evaluation.scenes.held_out import held_out_prompts
from evaluation.scenes.judge import judge
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.by_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError, UserError
from pocketdit.files import write_atomically
from pocketdit.running.assemble import build_encoders
from pocketdit.running.grids import grid, to_uint8
from pocketdit.sampling import sample

BATCH = 24
SHOWN = 12


def score(
    folder: RunFolder, count: int, seed: int, widths: Sequence[float] | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """Share of correct pictures for every width and kind of prompt, with the settings that made them.

    Writes ``scene_score.json`` and ``samples/scene_score.png`` (a dozen pictures framed by their verdicts) into
    the run.
    """
    experiment = load_experiment(folder)
    prompts = held_out_prompts(count, seed)
    texts = tuple(prompt["prompt"] for prompt in prompts)
    sampling = dataclasses.replace(experiment.sampling, prompts=texts, **changes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, encoders = load_network(folder, device), build_encoders(experiment).to(device)
    result: dict[str, Any] = {
        "judge": "rule-based judge for drawn scenes (evaluation/scenes/judge.py); not GenEval",
        "run": folder.name,
        "prompts": {"count": count, "seed": seed, "split": "validation captions, absent from training"},
        "sampling": {k: v for k, v in dataclasses.asdict(sampling).items() if k != "prompts"},
        "widths": {},
    }
    square = [i for i, prompt in enumerate(prompts) if (prompt["height"], prompt["width"]) == sampling.size]
    shown = square[:: max(1, len(square) // SHOWN)][:SHOWN]
    rows, labels = [], []
    chosen = sorted(widths or experiment.backbone.widths)
    bar = tqdm(total=len(chosen) * count, desc="judging", unit="picture", mininterval=5, file=sys.stderr)
    for width in chosen:
        images = draw_all(network, encoders, prompts, width, sampling, bar)
        verdicts = [judge(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        result["widths"][f"{width:g}"] = by_tag(prompts, [verdict.correct for verdict in verdicts])
        rows.append(torch.stack([framed(images[i], verdicts[i].correct) for i in shown]))
        labels.append(f"{width:g}x")
    bar.close()
    picture = grid(rows, labels, [texts[i] for i in shown])
    write_atomically(folder.samples / "scene_score.png", lambda path: picture.save(path, format="PNG"))
    write_atomically(folder.path / "scene_score.json", json.dumps(result, indent=1))
    return result


def draw_all(
    network: Network,
    encoders: Encoders,
    prompts: Sequence[dict[str, Any]],
    width: float,
    sampling: Sampling,
    bar: tqdm,
) -> list[np.ndarray]:
    """One picture a prompt at the prompt's own size, uint8 (H, W, 3), in the order of the prompts."""
    pictures: dict[int, np.ndarray] = {}
    sizes = sorted({(prompt["height"], prompt["width"]) for prompt in prompts})
    for size in sizes:
        rows = [i for i, prompt in enumerate(prompts) if (prompt["height"], prompt["width"]) == size]
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            texts = [prompts[i]["prompt"] for i in part]
            drawn = to_uint8(sample(network, encoders, texts, width, dataclasses.replace(sampling, size=size)))
            pictures |= {i: np.ascontiguousarray(p.permute(1, 2, 0).numpy()) for i, p in zip(part, drawn, strict=True)}
            bar.update(len(part))
    return [pictures[i] for i in range(len(prompts))]


def framed(image: np.ndarray, correct: bool) -> torch.Tensor:
    """The picture with a frame, green where the judge found what was asked and red where not; (3, H, W)."""
    image = image.copy()
    for edge in (np.s_[:3], np.s_[-3:], np.s_[:, :3], np.s_[:, -3:]):
        image[edge] = (0, 160, 0) if correct else (220, 0, 0)
    return torch.from_numpy(image).permute(2, 0, 1)


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
    parser = argparse.ArgumentParser(prog="python -m evaluation.scenes.score", description=__doc__.splitlines()[0])
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
