"""Writes one PNG file per prompt, seed and width.

    OUT/metadata.jsonl              one line per image: file_name, text (the prompt) and the settings
    OUT/PROMPT_ID/SEED.png          the settings are also in the file's text chunks

``lightning data build`` and ``lightning evaluate`` can read such a folder. If there are several widths, each of them
has a separate folder, such as OUT/width_0.5.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from torch import Tensor
from tqdm.auto import tqdm

from evaluation.contract import Prompt
from evaluation.subjects.sampling import group_by_size
from pocketdit import __version__
from pocketdit.config.experiment import Sampling
from pocketdit.counts import counted
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from pocketdit.running.model import Model
from pocketdit.sampling import BATCH

METADATA = "metadata.jsonl"
_SETTINGS = "Comment"  # a predefined keyword of the PNG specification


@dataclass(frozen=True)
class _Batch:
    """Prompts that are always sampled together, because the last bits of an image can depend on its batch.

    Attributes:
        prompts: The prompts.
        width: Width of the sub-network.
        sampling: The sampling settings, with the size and the seed of the batch.
        settings: The width and the settings as JSON.
        folder: Folder for the images at this width.
    """

    prompts: list[Prompt]
    width: float
    sampling: Sampling
    settings: str
    folder: Path

    def files(self) -> list[tuple[Prompt, Path]]:
        """Return the prompts, each with the path of its image."""
        return [(prompt, self.folder / prompt.id / f"{self.sampling.seed:04d}.png") for prompt in self.prompts]


def write_images(
    model: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    widths: Sequence[float],
    seeds: Sequence[int],
    out: Path,
    notice: str,
) -> None:
    """Sample images and write them to separate files. Existing images with the same settings are kept.

    Args:
        model: The model of the run.
        prompts: The prompts. Their metadata may contain the "width" and "height" of the image in pixels.
        sampling: The sampling settings, whose prompts and seed are not used.
        widths: Widths to sample.
        seeds: Seeds of the initial noise. Each seed yields an image per prompt.
        out: Folder to write to.
        notice: The run's notice, which is stored in every file.

    Raises:
        ConfigError: A file exists and was not sampled with these settings.
    """
    folders = {width: out if len(widths) == 1 else out / f"width_{width:g}" for width in widths}
    batches = [batch for width in widths for batch in _batches(model, prompts, sampling, width, seeds, folders[width])]
    for batch in batches:
        _require_same(batch)
    with tqdm(total=sum(len(batch.prompts) for batch in batches), desc="sampling", unit="image") as progress:
        for batch in batches:
            missing = [path for _, path in batch.files() if not path.exists()]
            if missing:
                images = model.sample([prompt.text for prompt in batch.prompts], batch.width, batch.sampling)
                for image, (prompt, path) in zip(images, batch.files(), strict=True):
                    if path in missing:
                        write_image(image, prompt.text, path, batch.settings, notice)
            progress.update(len(batch.prompts))
    for width, folder in folders.items():
        lines = [line for batch in batches if batch.width == width for line in _lines(batch)]
        write_metadata(folder, lines)
        print(f"{folder}: {counted(len(lines), 'image')} at width {width:g}")


def _batches(
    model: Model, prompts: Sequence[Prompt], sampling: Sampling, width: float, seeds: Sequence[int], folder: Path
) -> Iterator[_Batch]:
    """Yield the batches of a width. They do not depend on which files already exist."""
    for size, group in group_by_size(prompts, sampling.size):
        for seed in seeds:
            settings = replace(sampling, size=size, seed=seed)
            description = json.dumps(model.describe(width, settings))
            for first in range(0, len(group), BATCH):
                yield _Batch(group[first : first + BATCH], width, settings, description, folder)


def _require_same(batch: _Batch) -> None:
    """Check that existing files are images of these prompts with these settings."""
    for prompt, path in batch.files():
        if path.exists() and _read(path) != (prompt.text, batch.settings):
            raise ConfigError(
                f"--out: {path} is not an image of this prompt with these settings; choose another folder, "
                "or delete the file"
            )


def _lines(batch: _Batch) -> Iterator[dict[str, Any]]:
    for prompt, path in batch.files():
        yield metadata_line(path.relative_to(batch.folder), prompt.text, json.loads(batch.settings))


def metadata_line(path: Path, prompt: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an image in the metadata file.

    Args:
        path: Path of the image, relative to the folder of the metadata file.
        prompt: The prompt.
        settings: The image's settings, as ``Model.describe`` returns them.
    """
    return {"file_name": path.as_posix(), "text": prompt, **settings}


def write_metadata(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write the metadata file of a folder of images."""
    write_atomically(folder / METADATA, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def write_image(image: Tensor, prompt: str, path: Path, settings: str, notice: str) -> None:
    """Write an image as a PNG file, whose text chunks contain its prompt and its settings.

    Args:
        image: The image as uint8, (3, H, W).
        prompt: The prompt.
        path: Path of the file.
        settings: The settings as JSON.
        notice: The run's notice.
    """
    chunks = PngImagePlugin.PngInfo()
    entries = {"Description": prompt, _SETTINGS: settings, "Software": f"PocketDiT {__version__}", "Copyright": notice}
    for keyword, text in entries.items():
        if text:
            chunks.add_itxt(keyword, text)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: picture.save(temporary, format="PNG", pnginfo=chunks))


def _read(path: Path) -> tuple[Any, Any] | None:
    """Return the prompt and the settings that a PNG file stores, or None if the file cannot be read as a PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return image.info.get("Description"), image.info.get(_SETTINGS)
    except (OSError, ValueError, SyntaxError):
        return None
