"""Writes the images for all prompts and widths to one PNG file."""

from collections.abc import Sequence
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from pocketdit.config.experiment import Sampling
from pocketdit.counts import counted
from pocketdit.files import write_atomically
from pocketdit.running.grids import image_grid
from pocketdit.running.model import Model


def write_grid(model: Model, sampling: Sampling, widths: Sequence[float], out: Path, notice: str) -> None:
    """Sample images at all widths and write them as a grid.

    Args:
        model: The model of the run.
        sampling: The prompts and the sampling settings.
        widths: Widths to sample.
        out: Path of the PNG file.
        notice: The run's notice, which is stored in the file.
    """
    rows = []
    for width in widths:
        rows.append(model.sample(sampling.prompts, width, sampling))
        images, steps = counted(len(sampling.prompts), "image"), counted(sampling.steps, "sampling step")
        print(f"width {width:g}: {images}, {steps} ({sampling.sampler})")
    grid = image_grid(rows, [f"{width:g}x" for width in widths], sampling.prompts)
    text = PngInfo()
    if notice:
        text.add_itxt("Copyright", notice)
    write_atomically(out, lambda temporary: grid.save(temporary, format="PNG", pnginfo=text))
    print(out)
