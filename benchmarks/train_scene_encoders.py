"""Train the small encoders that judge rendered scenes, and write their weights.

    python benchmarks/train_scene_encoders.py [--steps 600] [--seed 0] [--out evaluation/scenes/weights]

Both encoders are trained only on scenes of the training split, which are rendered on the fly.
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

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import BACKGROUNDS, COLORS, SHAPES, Scene
from datamodules.scenes.split import CaptionedScene, generate_scenes
from evaluation.contract import ImageArray
from evaluation.scenes.encoders.clip import ARCHITECTURE, build_clip
from evaluation.scenes.encoders.features import SIDE, FeatureNetwork
from evaluation.scenes.encoders.letterbox import letterbox
from evaluation.scenes.encoders.tokenizer import WordTokenizer, vocabulary
from evaluation.scenes.encoders.weight_files import WEIGHTS, save_weights
from pocketdit.errors import UserError

BATCH_SIZE = 128
_MAX_NOISE = 60.0  # standard deviation in gray levels
_MAX_BLUR = 3.0  # standard deviation in pixels
_KINDS = [(shape, color) for shape in SHAPES for color in COLORS]


def train_clip(steps: int, seed: int) -> tuple[Any, list[str]]:
    """Train a CLIP with its contrastive loss (Radford et al. 2021) on short and long captions, chosen at random.

    Returns:
        The model and its vocabulary.
    """
    from open_clip import ClipLoss

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words = vocabulary()
    tokenizer = WordTokenizer(words, ARCHITECTURE["text_cfg"]["context_length"])
    model, contrastive_loss = build_clip(ARCHITECTURE, tokenizer.size), ClipLoss()
    side = ARCHITECTURE["vision_cfg"]["image_size"]
    for step in _optimization_steps(model, steps, learning_rate=2e-3, name="clip"):
        batch = _training_scenes(seed, step)
        images = letterbox([np.asarray(render_scene(sample.scene)) for sample in batch], side)
        tokens = tokenizer([sample.captions[int(rng.integers(2))] for sample in batch])
        contrastive_loss(*model(images, tokens)).backward()
        # As in CLIP's paper, the logits are scaled by a factor of at most 100.
        model.logit_scale.data.clamp_(max=float(np.log(100)))
    return model.eval(), words


class _Heads(nn.Module):
    """Predicts an image's background, noise, blur, and number, kinds and sizes of objects from its features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.background = nn.Linear(width, len(BACKGROUNDS))
        self.number = nn.Linear(width, 5)
        self.present = nn.Linear(width, len(_KINDS) + 2)
        self.corruption = nn.Linear(width, 2)

    def loss(self, features: Tensor, scenes: Sequence[Scene], corruption: Tensor) -> Tensor:
        backgrounds = torch.tensor([list(BACKGROUNDS).index(scene.background) for scene in scenes])
        numbers = torch.tensor([len(scene.objects) for scene in scenes])
        present = torch.zeros(len(scenes), len(_KINDS) + 2)
        for row, scene in zip(present, scenes, strict=True):
            for item in scene.objects:
                row[_KINDS.index(item.kind)] = 1
                row[-1 if item.size == "small" else -2] = 1
        return (
            F.cross_entropy(self.background(features), backgrounds)
            + F.cross_entropy(self.number(features), numbers)
            + 10 * F.binary_cross_entropy_with_logits(self.present(features), present)
            + 10 * F.mse_loss(self.corruption(features), corruption)
        )


def train_features(steps: int, seed: int) -> FeatureNetwork:
    """Train the feature network to predict attributes of images, some of which lack objects or have noise or blur."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FeatureNetwork()
    heads = _Heads(network.width)
    modules = nn.ModuleList([network, heads])
    for step in _optimization_steps(modules, steps, learning_rate=3e-3, name="features"):
        scenes = [_drop_objects(sample.scene, rng) for sample in _training_scenes(seed, step)]
        noises, blurs = (rng.random((2, BATCH_SIZE)) * (rng.random((2, BATCH_SIZE)) < 0.3)).tolist()
        images = [
            corrupt_image(np.asarray(render_scene(scene)), _MAX_NOISE * noise, _MAX_BLUR * blur, rng)
            for scene, noise, blur in zip(scenes, noises, blurs, strict=True)
        ]
        loss: Any = heads.loss(network(letterbox(images, SIDE)), scenes, torch.tensor([noises, blurs]).T)
        loss.backward()
    return network.eval()


def corrupt_image(image: ImageArray, noise: float, blur: float, rng: np.random.Generator) -> ImageArray:
    """Blur an image, then add Gaussian noise.

    Args:
        image: The image.
        noise: Standard deviation of the noise in gray levels.
        blur: Standard deviation of the blur in pixels.
        rng: Draws the noise.
    """
    if blur:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(blur)))
    if noise:
        image = np.clip(image + noise * rng.standard_normal(image.shape), 0, 255).round().astype(np.uint8)
    return image


def _drop_objects(scene: Scene, rng: np.random.Generator) -> Scene:
    """With probability 1/6, change the scene by dropping each of its objects with probability 1/2."""
    if rng.random() > 1 / 6:
        return scene
    return dataclasses.replace(scene, objects=tuple(item for item in scene.objects if rng.random() < 0.5))


def _training_scenes(seed: int, step: int) -> list[CaptionedScene]:
    """Return the training scenes of a step, which differ from those of all other steps."""
    return list(generate_scenes("train", BATCH_SIZE, seed=seed * 1_000_000 + step + 1))


def _optimization_steps(model: nn.Module, steps: int, learning_rate: float, name: str) -> Iterator[int]:
    """Yield each step's number, and then apply the gradients that the caller has computed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.1)
    model.train()
    for step in tqdm(range(steps), desc=name, mininterval=5, file=sys.stderr):
        optimizer.zero_grad()
        yield step
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--steps", type=int, default=600, help="training steps of 128 scenes per encoder (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the weight files (default: %(default)s)")
    args = parser.parse_args(arguments)
    trained = {"steps": args.steps, "batch": BATCH_SIZE, "seed": args.seed}
    try:
        network = train_features(args.steps, args.seed)
        widths = [layer.out_channels for layer in network if isinstance(layer, nn.Conv2d)]
        save_weights(args.out / "features.safetensors", network.state_dict(), {"widths": widths, "trained": trained})
        model, words = train_clip(args.steps, args.seed)
        metadata = {"architecture": ARCHITECTURE, "vocabulary": words, "trained": trained}
        save_weights(args.out / "clip.safetensors", model.state_dict(), metadata)
    except UserError as error:
        print(f"train_scene_encoders: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
