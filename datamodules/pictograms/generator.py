"""Compositions of pictograms as a source of captioned images for a data set."""

from collections.abc import Iterator
from dataclasses import dataclass

from datamodules.pictograms.captions import annotate_composition, caption_composition
from datamodules.pictograms.catalog import ATTRIBUTION
from datamodules.pictograms.composition import generate_compositions
from datamodules.pictograms.render import render_composition
from datamodules.shards.attribution import Attribution
from datamodules.shards.build_generated import GeneratedImage
from datamodules.shards.schema import Split
from pocketdit.errors import UserError

_MIN_SIZE = 64  # in pixels; at smaller sizes, small pictograms cannot be told apart


@dataclass(frozen=True)
class PictogramGenerator:
    """Generates square images of one to three pictograms.

    Args:
        size: Side of the images in pixels.

    Raises:
        UserError: ``size`` is less than 64 or not a multiple of 32.
    """

    size: int = 128
    name: str = "openmoji"
    attribution: Attribution | None = ATTRIBUTION

    def __post_init__(self) -> None:
        if self.size < _MIN_SIZE or self.size % 32:
            raise UserError(f"size {self.size}: must be a multiple of 32 that is at least {_MIN_SIZE}")

    @property
    def origin(self) -> str:
        """Human-readable description of the source of the images."""
        return f"datamodules.pictograms, {self.size} pixels"

    def generate(self, split: Split, count: int, seed: int) -> Iterator[GeneratedImage]:
        """Yield ``count`` images of a split (see ``generate_compositions``).

        Raises:
            UserError: The extra ``emoji`` is not installed.
        """
        for number, composition in generate_compositions(split, count, seed):
            captions = caption_composition(composition, number)
            image = render_composition(composition, self.size)
            yield GeneratedImage(f"{number:012x}", image, captions, annotate_composition(composition, captions[0]))
