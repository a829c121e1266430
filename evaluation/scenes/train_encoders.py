"""Train the small encoders that judge drawn scenes, and write their weights beside this file.

    python -m evaluation.scenes.train_encoders [--steps 600] [--seed 0] [--out evaluation/scenes/weights]

Both see scenes of the training split only, drawn as they go.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from datamodules.scenes.draw import draw
from datamodules.scenes.scene import BACKGROUNDS, COLORS, SHAPES, Scene
from datamodules.scenes.split import CaptionedScene, scenes
from evaluation.contract import Picture
from evaluation.scenes.clip import ARCHITECTURE, build_clip
from evaluation.scenes.features import SIDE, FeatureNetwork
from evaluation.scenes.framing import framed
from evaluation.scenes.shipped import WEIGHTS, save_weights
from evaluation.scenes.words import WordTokenizer, vocabulary
from pocketdit.errors import UserError

BATCH = 128
_MOST_NOISE, _MOST_BLUR = 60.0, 3.0  # standard deviations: of 255, and in pixels
_KINDS = [(shape, color) for shape in SHAPES for color in COLORS]


def train_clip(steps: int, seed: int) -> tuple[Any, list[str]]:
    """A CLIP by its contrastive loss (Radford et al. 2021), short and long captions by lot; and its vocabulary."""
    from open_clip import ClipLoss

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words = vocabulary()
    tokenizer = WordTokenizer(words, ARCHITECTURE["text_cfg"]["context_length"])
    model, loss_of = build_clip(ARCHITECTURE, tokenizer.size), ClipLoss()
    side = ARCHITECTURE["vision_cfg"]["image_size"]
    for step in _optimizing(model, steps, rate=2e-3, name="clip"):
        batch = _batch(seed, step)
        pictures = framed([np.asarray(draw(sample.scene)) for sample in batch], side)
        texts = tokenizer([sample.captions[int(rng.integers(2))] for sample in batch])
        loss_of(*model(pictures, texts)).backward()
        # As in the paper: logits grow no further than a factor of 100.
        model.logit_scale.data.clamp_(max=float(np.log(100)))
    return model.eval(), words


class _Heads(nn.Module):
    """What features are trained to tell: background, number of objects, the kinds there, sizes, noise and blur."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.background = nn.Linear(width, len(BACKGROUNDS))
        self.number = nn.Linear(width, 5)
        self.present = nn.Linear(width, len(_KINDS) + 2)
        self.spoilt = nn.Linear(width, 2)

    def loss(self, features: Tensor, told: Sequence[Scene], spoilt: Tensor) -> Tensor:
        backgrounds = torch.tensor([list(BACKGROUNDS).index(scene.background) for scene in told])
        numbers = torch.tensor([len(scene.objects) for scene in told])
        present = torch.zeros(len(told), len(_KINDS) + 2)
        for row, scene in zip(present, told, strict=True):
            for item in scene.objects:
                row[_KINDS.index(item.kind)] = 1
                row[-1 if item.size == "small" else -2] = 1
        return (
            F.cross_entropy(self.background(features), backgrounds)
            + F.cross_entropy(self.number(features), numbers)
            + 10 * F.binary_cross_entropy_with_logits(self.present(features), present)
            + 10 * F.mse_loss(self.spoilt(features), spoilt)
        )


def train_features(steps: int, seed: int) -> FeatureNetwork:
    """The feature network by the attributes of scenes, with objects missing, noise and blur in some."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FeatureNetwork()
    heads = _Heads(network.width)
    for step in _optimizing(nn.ModuleList([network, heads]), steps, rate=3e-3, name="features"):
        told = [_without_some(sample.scene, rng) for sample in _batch(seed, step)]
        noises, blurs = (rng.random((2, BATCH)) * (rng.random((2, BATCH)) < 0.3)).tolist()
        pictures = [
            spoil(np.asarray(draw(scene)), _MOST_NOISE * noise, _MOST_BLUR * blur, rng)
            for scene, noise, blur in zip(told, noises, blurs, strict=True)
        ]
        loss: Any = heads.loss(network(framed(pictures, SIDE)), told, torch.tensor([noises, blurs]).T)
        loss.backward()
    return network.eval()


def spoil(picture: Picture, noise: float, blur: float, rng: np.random.Generator) -> Picture:
    """Gaussian blur (standard deviation in pixels), then noise (of 255)."""
    if blur:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(blur)))
    if noise:
        picture = np.clip(picture + noise * rng.standard_normal(picture.shape), 0, 255).round().astype(np.uint8)
    return picture


def _without_some(scene: Scene, rng: np.random.Generator) -> Scene:
    """In one scene of six, each object is there or not by a coin."""
    if rng.random() > 1 / 6:
        return scene
    return dataclasses.replace(scene, objects=tuple(item for item in scene.objects if rng.random() < 0.5))


def _batch(seed: int, step: int) -> list[CaptionedScene]:
    """Never the same scenes twice."""
    return list(scenes("train", BATCH, seed=seed * 1_000_000 + step + 1))


def _optimizing(model: nn.Module, steps: int, rate: float, name: str) -> Iterator[int]:
    """Yields every step's number; the gradients that the caller leaves behind are applied."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    model.train()
    for step in tqdm(range(steps), desc=name, mininterval=5, file=sys.stderr):
        optimizer.zero_grad()
        yield step
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.scenes.train_encoders", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--steps", type=int, default=600, help="of 128 scenes, for each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args(arguments)
    trained = {"steps": args.steps, "batch": BATCH, "seed": args.seed}
    try:
        network = train_features(args.steps, args.seed)
        widths = [layer.out_channels for layer in network if isinstance(layer, nn.Conv2d)]
        save_weights(args.out / "features.safetensors", network.state_dict(), {"widths": widths, "trained": trained})
        model, words = train_clip(args.steps, args.seed)
        about = {"architecture": ARCHITECTURE, "vocabulary": words, "trained": trained}
        save_weights(args.out / "clip.safetensors", model.state_dict(), about)
    except UserError as error:
        print(f"train_encoders: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
