"""Compare the small autoencoder with the DCT stand-in on held-out images.

With --run and --ship, also replace the shipped weights.

    python -m benchmarks.autoencoder [--json PATH] [--image docs/images/autoencoder.png]   # compare the shipped weights
    python -m benchmarks.autoencoder --run autoencoder --ship             # compare a run's weights, and ship them

The held-out images are whole pictograms and tiles of photographs that do not occur in training (see
``datamodules/reconstruction``). The table shows the PSNR without noise, the PSNR with Gaussian noise added to the
latents in proportion to the standard deviation of each channel, and how visible the borders between latent positions
are.

Shape letters: B = batch, C = latent channels, h x w = latent sides, H x W = image sides.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from benchmarks.timing import table, write_result
from datamodules.reconstruction.photographs import PHOTOGRAPHS, tiles
from datamodules.reconstruction.pictograms import codes, whole_pictogram
from pocketdit.artifacts.autoencoder import load_autoencoder
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.config.experiment import AutoencoderExperiment
from pocketdit.config.typed import plain
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.learned import LearnedAutoencoder
from pocketdit.errors import UserError
from pocketdit.files import write_atomically
from pocketdit.images import from_uint8, to_uint8
from pocketdit.losses.reconstruction import psnr
from pocketdit.running.grids import image_grid

SIDE = 128
NOISE = (0.0, 0.05, 0.1)
SHIPPED = Path(__file__).parent.parent / "platform" / "pocketdit" / "encoders" / "weights" / "pictograms.safetensors"
# Sections of the configuration that do not depend on the machine.
RECORDED = ("seed", "architecture", "stage", "optimizer", "training")
_BATCH = 32
_SHOWN = 4  # number of images of each kind in the grid


def held_out() -> dict[str, Tensor]:
    """Return the held-out pictograms, on white, and tiles of the held-out photographs as uint8 (B, 3, H, W)."""
    pictograms = [whole_pictogram(code, SIDE) for code in codes("validation")]
    photographs = [tile for name in PHOTOGRAPHS["validation"] for tile in tiles(name, SIDE)]
    return {"pictograms": stack(pictograms), "photographs": stack(photographs)}


def stack(images: Sequence[Image.Image]) -> Tensor:
    """Stack images into a uint8 tensor (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


@torch.no_grad()
def measure(autoencoder: Autoencoder, images: Tensor, levels: Sequence[float] = NOISE) -> dict[str, float]:
    """Return the mean PSNR (dB) at each noise level, and ``border_gradient`` relative to that of the original images.

    Args:
        autoencoder: The autoencoder.
        images: uint8 images (B, 3, H, W).
        levels: Noise levels, as fractions of the standard deviation of each latent channel.
    """
    original = torch.cat([from_uint8(part) for part in torch.split(images, _BATCH)])
    latents = torch.cat([autoencoder.encode(part) for part in torch.split(original, _BATCH)])
    std = latents.std(dim=(0, 2, 3), keepdim=True)
    draws = torch.Generator().manual_seed(0)
    scores: dict[str, float] = {}
    for noise in levels:
        noisy = latents + noise * std * torch.randn(latents.shape, generator=draws)
        decoded = torch.cat([autoencoder.decode(part) for part in torch.split(noisy, _BATCH)])
        scores[f"psnr at {noise:g}"] = float(psnr(decoded, original).mean())
        if not noise:
            at_borders = [border_gradient(each, autoencoder.factor) for each in (decoded, original)]
            scores["border excess"] = at_borders[0] / at_borders[1]
    return scores


def border_gradient(images: Tensor, factor: int) -> float:
    """Return the mean squared difference between neighboring pixels across position borders, divided by that elsewhere.

    Args:
        images: Images (B, 3, H, W).
        factor: Distance between the borders in pixels.
    """
    at_border, elsewhere = 0.0, 0.0
    for direction in (images, images.transpose(2, 3)):
        energy = (direction[..., 1:] - direction[..., :-1]).square().mean(dim=(0, 1, 2))
        is_border = torch.arange(1, direction.shape[-1]) % factor == 0
        at_border += float(energy[is_border].mean())
        elsewhere += float(energy[~is_border].mean())
    return at_border / elsewhere


@torch.no_grad()
def latent_statistics(autoencoder: Autoencoder, images: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Return the mean and standard deviation of each latent channel over all images."""
    latents = torch.cat(
        [autoencoder.encode(from_uint8(part)) for kind in images.values() for part in torch.split(kind, _BATCH)]
    )
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    return {name: [round(value, 3) for value in values.tolist()] for name, values in (("mean", mean), ("std", std))}


def save_comparison(autoencoders: Mapping[str, Autoencoder], images: Mapping[str, Tensor], path: Path) -> None:
    """Save a grid of held-out images and their reconstructions."""
    shown = from_uint8(torch.cat([kind[:: len(kind) // 6][:_SHOWN] for kind in images.values()]))
    with torch.no_grad():
        rows = {"original": shown} | {name: each.decode(each.encode(shown)) for name, each in autoencoders.items()}
    best = psnr(rows["learned"], shown)
    grid = image_grid([to_uint8(row) for row in rows.values()], list(rows), [f"{value:.1f} dB" for value in best])
    write_atomically(path, lambda temporary: grid.save(temporary, format="PNG"))


def ship(network: ConvAutoencoder, experiment: AutoencoderExperiment) -> None:
    """Write a run's weights to the package in fp16, with the settings that produced them in the file's header."""
    half = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    settings = {name: plain(getattr(experiment, name)) for name in RECORDED}
    metadata = {"about": json.dumps(settings)}
    SHIPPED.parent.mkdir(exist_ok=True)
    write_atomically(SHIPPED, save(half, metadata))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", help="run that trained an autoencoder (default: the shipped weights)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--ship", action="store_true", help="replace the package's weights with those of --run")
    parser.add_argument("--image", type=Path, help="write held-out images and their reconstructions to this PNG file")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    try:
        if args.run:
            folder = find(args.runs, args.run)
            network = load_autoencoder(folder)
            if args.ship:
                ship(network, load_experiment(folder, AutoencoderExperiment))
            learned = LearnedAutoencoder(str(folder.weights))
        else:
            learned = LearnedAutoencoder()
        images = held_out()
        autoencoders: dict[str, Autoencoder] = {"DCT": DCTAutoencoder(scale=2.1, center=0.53), "learned": learned}
        rows = [
            {"autoencoder": name, "images": kind, "count": len(batch), **measure(each, batch)}
            for kind, batch in images.items()
            for name, each in autoencoders.items()
        ]
    except UserError as error:
        print(f"autoencoder: {error}", file=sys.stderr)
        return error.status
    columns = [*(f"psnr at {noise:g}" for noise in NOISE), "border excess"]
    cells = [[str(row[name]) for name in ("images", "count", "autoencoder")] + [f"{row[c]:.2f}" for c in columns]
             for row in rows]  # fmt: skip
    print(table(["images", "count", "autoencoder", *columns], cells))
    statistics = latent_statistics(learned, images)
    print(f"latents of the learned autoencoder: mean {statistics['mean']}, std {statistics['std']}")
    if args.image:
        save_comparison(autoencoders, images, args.image)
    write_result({"held_out": rows, "latents": statistics}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
