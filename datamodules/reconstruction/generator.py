"""Generates the images of data sets on which autoencoders are trained."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datamodules.pictograms.catalog import ATTRIBUTION
from datamodules.pictograms.composition import generate_compositions
from datamodules.pictograms.generator import PictogramGenerator
from datamodules.pictograms.render import render_composition
from datamodules.reconstruction.photographs import random_crop
from datamodules.reconstruction.pictograms import random_pictogram
from datamodules.shards.attribution import Attribution
from datamodules.shards.build_generated import GeneratedImage
from datamodules.shards.schema import SPLITS, Split

_KINDS = ("pictogram", "composition", "pictogram", "photograph")


@dataclass(frozen=True)
class ReconstructionGenerator:
    """Generates single pictograms, compositions, and crops of photographs in the ratio 2:1:1.

    A caption only names the kind of image, because an autoencoder does not read captions.

    Args:
        size: Side of the images in pixels.

    Raises:
        UserError: ``size`` is less than 64 or not a multiple of 32.
    """

    size: int = 128
    name: str = "reconstruction"
    attribution: Attribution | None = ATTRIBUTION

    def __post_init__(self) -> None:
        PictogramGenerator(self.size)

    @property
    def origin(self) -> str:
        """Human-readable description of the source of the images."""
        return f"datamodules.reconstruction, {self.size} pixels"

    def generate(self, split: Split, count: int, seed: int) -> Iterator[GeneratedImage]:
        """Yield ``count`` images of a split.

        Raises:
            UserError: The extra ``emoji`` is not installed.
        """
        compositions = generate_compositions(split, count, seed)
        for number in range(count):
            kind = _KINDS[number % len(_KINDS)]
            rng = np.random.default_rng((seed, SPLITS.index(split), number))
            if kind == "composition":
                image = render_composition(next(compositions)[1], self.size)
            elif kind == "pictogram":
                image = random_pictogram(split, self.size, rng)
            else:
                image = random_crop(split, self.size, rng)
            yield GeneratedImage(f"{split}-{number:06d}", image, [f"a {kind}"], {"kind": kind})
