"""Measure what the adversarial term contributes to the tiny decoder, on rendered scenes and on photographs.

    python -m benchmarks.decoder_adversarial [--steps 3000] [--seeds 3] [--weight 0.05] [--data data/scenes]

Trains the tiny decoder of experiments/tiny_decoder.yaml with and without the adversarial term, with the same seeds, and
compares the reconstructions of the held-out scenes and of tiles of scikit-image's photographs. No decoder is trained on
photographs. With the default settings, this takes about 40 minutes on one CPU core.

PSNR (dB) rewards blurred images; the other scores reward realistic images. "features" is the mean squared distance
between the unit-length features of an image and its original. It resembles LPIPS, but uses a single, pooled layer. "FD"
is the Fréchet distance between the features of all images and of all originals. Both scores use EfficientNet-Lite0, so
their values are comparable only with other values of this benchmark. "sharpness" is the mean absolute gradient relative
to that of the originals; 1 is ideal.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import print_machine, table
from evaluation.judges.efficientnet import EfficientNetLite0
from evaluation.metrics.frechet import Gaussian, frechet_distance
from pocketdit.api import train
from pocketdit.artifacts.decoder import load_decoder
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.config.component import build
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder
from pocketdit.errors import UserError
from pocketdit.files import write_atomically
from pocketdit.images import from_uint8, to_uint8
from pocketdit.losses.reconstruction import psnr
from pocketdit.running.assemble import build_data

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "tiny_decoder.yaml"
TILE = 128
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "hubble_deep_field", "retina")
TILES_PER_PHOTOGRAPH = 16
ARMS = {"without": 0.0, "with": 1.0}
"""Factor by which each arm multiplies the adversarial weight."""


Batches = Sequence[Tensor]
"""Batches of uint8 images (B, 3, H, W)."""


class Scores(NamedTuple):
    """Scores of a set of reconstructions, as described at the top of this file."""

    psnr: float
    features: float
    fd: float
    sharpness: float


def photograph_tiles() -> Batches:
    """Return tiles of 128x128 pixels from scikit-image's photographs, spread evenly over each photograph."""
    import skimage.data

    tiles = []
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(np.ascontiguousarray(getattr(skimage.data, name)())).permute(2, 0, 1)
        grid = image.unfold(1, TILE, TILE).unfold(2, TILE, TILE).permute(1, 2, 0, 3, 4).flatten(0, 1)
        chosen = np.linspace(0, len(grid) - 1, min(len(grid), TILES_PER_PHOTOGRAPH)).round().astype(int)
        tiles.append(grid[torch.from_numpy(chosen)])
    return tiles


def held_out_scenes(experiment: DecoderExperiment) -> Batches:
    """Return the validation images of an experiment. The batches can differ in size."""
    data = build_data(experiment)
    batches = [batch["images"] for batch in data.val_dataloader()]
    data.teardown("validate")
    return batches


def encode(encoder: EfficientNetLite0, images: Batches) -> NDArray[np.float64]:
    """Return the features (N, D) of N images."""
    arrays = [image for batch in images for image in batch.permute(0, 2, 3, 1).numpy()]
    return encoder.encode_images(arrays).astype(np.float64)


def gradient(images: Batches) -> float:
    """Return the mean absolute difference of vertical neighbors plus that of horizontal neighbors."""
    values = [batch.float() for batch in images]
    rows = torch.cat([x.diff(dim=2).abs().flatten() for x in values])
    columns = torch.cat([x.diff(dim=3).abs().flatten() for x in values])
    return float(rows.mean() + columns.mean())


def score(encoder: EfficientNetLite0, original: Batches, decoded: Batches, features: NDArray[np.float64]) -> Scores:
    """Score reconstructions of ``original``, whose features are ``features`` (N, D)."""
    found = encode(encoder, decoded)
    unit, unit_original = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, features))
    ratios = torch.cat([psnr(from_uint8(a), from_uint8(b)) for a, b in zip(decoded, original, strict=True)])
    return Scores(
        float(ratios.mean()),
        float(((unit - unit_original) ** 2).sum(1).mean()),
        frechet_distance(Gaussian.from_samples(found), Gaussian.from_samples(features)),
        gradient(decoded) / gradient(original),
    )


@torch.no_grad()
def decode(decoder: TinyDecoder | Autoencoder, autoencoder: Autoencoder, images: Batches) -> Batches:
    """Encode images with the autoencoder, and decode the latents with the decoder."""
    return [to_uint8(decoder.decode(autoencoder.encode(from_uint8(batch)))) for batch in images]


def train_decoder(runs: Path, arm: str, seed: int, args: argparse.Namespace) -> str:
    """Train a decoder, and return the name of its run."""
    weight = ARMS[arm] * args.weight
    overrides = {
        "seed": seed,
        "runs": str(runs),
        "data.init_args.path": str(args.data),
        "training.max_steps": args.steps,
        "training.validate_every": 0,
        "training.sample_every": 0,
        "training.checkpoint_every": args.steps,
        "stage.init_args.adversarial_weight": weight,
        "stage.init_args.adversarial_from": args.steps // 4 if weight else 0,
    }
    changes = [*(f"{key}={value}" for key, value in overrides.items()), *args.set]
    return train(EXPERIMENT, changes, name=f"{arm}-{seed}").name


def compare(
    runs: Path, names: Mapping[str, Sequence[str]], encoder: EfficientNetLite0
) -> dict[str, dict[str, list[Scores]]]:
    """Return the scores of each arm's runs on each image set. The autoencoder's own decoder is an additional arm."""
    folders = {arm: [find(runs, name) for name in names[arm]] for arm in names}
    experiment = load_experiment(next(iter(folders.values()))[0], DecoderExperiment)
    autoencoder = build(experiment.autoencoder)
    sets = {"held-out scenes": held_out_scenes(experiment), "photographs": photograph_tiles()}
    result: dict[str, dict[str, list[Scores]]] = {}
    for title, images in sets.items():
        features = encode(encoder, images)
        own = score(encoder, images, decode(autoencoder, autoencoder, images), features)
        result[title] = {"autoencoder's own": [own]} | {
            arm: [
                score(encoder, images, decode(load_decoder(folder), autoencoder, images), features) for folder in runs_
            ]
            for arm, runs_ in folders.items()
        }
    return result


def describe(scores: Sequence[Scores]) -> list[str]:
    """Return the mean of every score and, with several seeds, its standard deviation."""
    cells = []
    for values, digits in zip(zip(*scores, strict=True), (2, 4, 2, 3), strict=True):
        deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.{digits}f}{deviation}")
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the decoders, and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000, help="training steps per decoder (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="decoders per arm (default: %(default)s)")
    parser.add_argument("--weight", type=float, default=0.05, help="adversarial weight (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("data/scenes"), help="data set (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="overrides for all runs")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    args = parser.parse_args(arguments)
    try:
        encoder = EfficientNetLite0()  # loaded before training, so that missing weights are reported early
        print_machine()
        with TemporaryDirectory(prefix="decoder_adversarial") as temporary:
            runs = args.runs or Path(temporary)
            names = {arm: [train_decoder(runs, arm, seed, args) for seed in range(args.seeds)] for arm in ARMS}
            result = compare(runs, names, encoder)
    except UserError as error:
        sys.exit(f"decoder_adversarial: {error}")
    for title, arms in result.items():
        rows = [[arm, *describe(scores)] for arm, scores in arms.items()]
        print(f"\n{title}\n{table([f'{args.steps} steps', 'PSNR', 'features', 'FD', 'sharpness'], rows)}")
        for field in Scores._fields:
            pairs = zip(arms["with"], arms["without"], strict=True)
            differences = [getattr(a, field) - getattr(b, field) for a, b in pairs]
            print(f"{field}: with - without = {', '.join(f'{value:+.4g}' for value in differences)}")
    if args.json:
        content = {t: {a: [s._asdict() for s in scores] for a, scores in arms.items()} for t, arms in result.items()}
        write_atomically(args.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
