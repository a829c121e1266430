"""Find the training image that is nearest to each sampled image, and measure how much a run has memorized.

    python -m benchmarks.nearest_images emoji_pretrain [--width 1] [--data data/openmoji] [--image PATH] [--json PATH]

The prompts are held-out compositions, whose content never occurs in training. The distance between two images is the
root mean square difference of their pixels after scaling to 32x32, in gray levels. For comparison, the same distances
are measured for as many held-out real images: a run that generalizes has similar distances, and one that
copies training images has distances near 0.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.timing import table, write_result
from evaluation.contract import ImageArray
from evaluation.metrics.image_source import ImageSource, open_source
from evaluation.prompts.pictograms import HeldOutCompositions
from evaluation.subjects.run import Run
from pocketdit.errors import UserError
from pocketdit.files import write_atomically
from pocketdit.running.grids import image_grid

SIDE = 32
_SHOWN = 8


class Nearest(NamedTuple):
    """The training images that are nearest to N images.

    Attributes:
        rows: Indices (N,) of the nearest images in the data set.
        distances: Root mean square differences (N,), in gray levels.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


def small(image: ImageArray) -> NDArray[np.float32]:
    """Scale an image to SIDE x SIDE pixels, and return it as a vector (SIDE * SIDE * 3,)."""
    scaled = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(scaled, dtype=np.float32).ravel()


def nearest(images: NDArray[np.float32], training: NDArray[np.float32]) -> Nearest:
    """Return the nearest of the training images (M, D) for each of the images (N, D)."""
    distances = torch.cdist(torch.from_numpy(images), torch.from_numpy(training)).div(images.shape[1] ** 0.5)
    values, rows = distances.min(dim=1)
    return Nearest(rows.numpy(), values.numpy())


def all_small(source: ImageSource, count: int | None = None) -> NDArray[np.float32]:
    """Return the first ``count`` images of a source, scaled with ``small``."""
    return np.stack([small(source.read(row)) for row in range(min(count or source.count, source.count))])


def save_grid(images: Sequence[ImageArray], neighbors: Sequence[ImageArray], texts: Sequence[str], path: Path) -> None:
    """Save a grid with the samples in one row and their nearest training images in the row below."""
    rows = [torch.from_numpy(np.stack(row)).permute(0, 3, 1, 2) for row in (images, neighbors)]
    grid = image_grid(rows, ["sample", "nearest training image"], texts)
    write_atomically(path, lambda temporary: grid.save(temporary, format="PNG"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="run to sample from")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--width", type=float, default=1.0, help="width (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("data/openmoji"), help="data set (default: %(default)s)")
    parser.add_argument("--count", type=int, default=48, help="number of prompts (default: %(default)s)")
    parser.add_argument("--image", type=Path, help="write a grid of samples and their nearest images to this file")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    try:
        source = open_source(args.data)
        training = all_small(source)
        real = nearest(all_small(open_source(args.data, "validation"), args.count), training)
        prompts = HeldOutCompositions(args.count).load().prompts
        pairs = list(Run(args.run, width=args.width, runs=args.runs).sample(prompts, 0))
    except UserError as error:
        print(f"nearest_images: {error}", file=sys.stderr)
        return error.status
    sampled = nearest(np.stack([small(image) for _, image in pairs]), training)
    quantiles = (0.05, 0.25, 0.5, 0.75)
    rows = {"samples": sampled.distances, "held-out images": real.distances}
    cells = [
        [name, len(values), *(f"{q:.1f}" for q in np.quantile(values, quantiles))] for name, values in rows.items()
    ]
    print(f"distance to the nearest of {source.count} training images, in gray levels")
    print(table(["images", "count", *(f"{q:.0%} quantile" for q in quantiles)], cells))
    if args.image:
        shown = pairs[:_SHOWN]
        neighbors = [source.read(int(row)) for row in sampled.rows[:_SHOWN]]
        save_grid([image for _, image in shown], neighbors, [prompt.text for prompt, _ in shown], args.image)
    write_result({name: values.tolist() for name, values in rows.items()}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
