"""A cache of sampled images. The key is a hash of everything that determines the images.

    ROOT/<key>/manifest.json              provenance of the images, and the prompts
    ROOT/<key>/<prompt id>/0000.png ...   images of a prompt

An interrupted call resumes with the missing images. Processes started by torchrun or SLURM divide the prompts among
themselves and write to the same folder.
"""

import hashlib
import io
import json
import os
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from tqdm.auto import tqdm

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import write_atomically
from pocketdit.names import require_unicode

_POLL_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0
_MAX_ID_BYTES = 200  # most file systems limit file names to 255 bytes, including the suffix
_SHOWN = 40  # maximum number of characters of an invalid ID that a message repeats
_LAST_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"  # the end of every PNG file


class ImageSampler(Protocol):
    """Samples images for prompts."""

    def provenance(self) -> dict[str, Any]:
        """Return everything that determines the images, serializable as JSON."""
        ...

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        """Yield image ``number`` (from 0) of every prompt, in any order."""
        ...


@dataclass(frozen=True)
class Rank:
    """The index of this process and the number of processes that share the prompts."""

    index: int = 0
    world_size: int = 1


def rank_from_environment(environment: Mapping[str, str] = os.environ) -> Rank:
    """Return the rank that torchrun or SLURM set, or ``Rank(0, 1)`` for a single process."""
    for index, world_size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if index in environment and world_size in environment:
            return Rank(int(environment[index]), int(environment[world_size]))
    return Rank()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a value's JSON, regardless of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def image_folder(root: Path, provenance: Mapping[str, Any], prompts: PromptSet) -> Path:
    """Return the folder for images with this provenance and these prompts."""
    return root / fingerprint({"made": provenance, "prompts": asdict(prompts)})[:16]


def sample_images(sampler: ImageSampler, prompts: PromptSet, root: Path, rank: Rank | None = None) -> ImageSet:
    """Sample the images of a prompt set, skipping those that exist.

    Args:
        sampler: Samples the images.
        prompts: The prompt set, with its number of images per prompt.
        root: Folder under which images are stored.
        rank: Rank of this process; None reads it from the environment. Each process returns once all images exist.

    Raises:
        UserError: Two prompts have the same id, or an id cannot be a file name.
        RunError: Other processes have added no images for ten minutes.
    """
    check_ids(prompts)
    rank = rank or rank_from_environment()
    provenance = sampler.provenance()
    folder = image_folder(root, provenance, prompts)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"made": provenance, "prompts": asdict(prompts)}
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1, default=str) + "\n")
    own_prompts = prompts.prompts[rank.index :: rank.world_size]
    missing = {
        number: [prompt for prompt in own_prompts if not is_complete(image_path(folder, prompt, number))]
        for number in range(prompts.images_each)
    }
    total = sum(map(len, missing.values()))
    with tqdm(total=total, desc=f"sampling {prompts.name}", unit="image", disable=not total) as progress:
        for number, batch in missing.items():
            for prompt, image in sampler.sample(batch, number) if batch else ():
                _save(image, image_path(folder, prompt, number))
                progress.update()
    images = {
        prompt.id: tuple(image_path(folder, prompt, number) for number in range(prompts.images_each))
        for prompt in prompts.prompts
    }
    if rank.world_size > 1:
        wait_for([path for paths in images.values() for path in paths])
    return ImageSet(prompts, images, provenance)


def stored_images(root: Path) -> list[ImageSet]:
    """Read the image sets that ``sample_images`` has completed under a folder, ordered by the names of their prompts.

    Raises:
        UserError: A manifest is damaged.
    """
    image_sets = []
    for file in sorted(root.glob("*/manifest.json")):
        try:
            manifest = json.loads(file.read_bytes())
            stored = manifest["prompts"]
            prompts = PromptSet(
                str(stored["name"]),
                tuple(Prompt(str(prompt["id"]), str(prompt["text"])) for prompt in stored["prompts"]),
                int(stored["images_each"]),
            )
            provenance = dict(manifest["made"])
            check_ids(prompts)
            for prompt in prompts.prompts:
                require_unicode(prompt.text)
            if prompts.images_each < 1:
                raise ValueError("images_each must be at least 1")
        except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError) as error:
            raise UserError(f"{file}: not a manifest of sampled images ({error})") from error
        numbers = range(prompts.images_each)
        if all(
            is_complete(image_path(file.parent, prompt, number)) for prompt in prompts.prompts for number in numbers
        ):
            images = {
                prompt.id: tuple(image_path(file.parent, prompt, number) for number in numbers)
                for prompt in prompts.prompts
            }
            image_sets.append(ImageSet(prompts, images, provenance))
    return sorted(image_sets, key=lambda image_set: image_set.prompts.name)


def _save(image: ImageArray, path: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "png")
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, encoded.getvalue())


def is_complete(path: Path) -> bool:
    """Return whether a PNG file exists and is not truncated, that is, ends with the last chunk of the format."""
    if not path.is_file() or path.stat().st_size < len(_LAST_CHUNK):
        return False
    with path.open("rb") as file:
        file.seek(-len(_LAST_CHUNK), os.SEEK_END)
        return file.read() == _LAST_CHUNK


def image_path(folder: Path, prompt: Prompt, number: int) -> Path:
    """Return the path of image ``number`` of a prompt."""
    return folder / prompt.id / f"{number:04d}.png"


def check_ids(prompts: PromptSet) -> None:
    """Check that a prompt set is not empty and that its ids are unique file names.

    Raises:
        ConfigError: The prompt set is empty.
        UserError: An id occurs twice or cannot be a file name.
    """
    ids = [prompt.id for prompt in prompts.prompts]
    if not ids:
        raise ConfigError(f"prompt set {prompts.name}: no prompts; its count or limit must be at least 1")
    duplicates = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if duplicates:
        raise UserError(f"prompt set {prompts.name}: duplicate id {duplicates[0]!r}")
    for name in ids:
        if not _is_file_name(name):
            shown = repr(name[:_SHOWN]) + "..." * (len(name) > _SHOWN)
            raise UserError(
                f"prompt set {prompts.name}: the id {shown} is not a plain file name of at most {_MAX_ID_BYTES} bytes; "
                "correct it"
            )


def _is_file_name(name: str) -> bool:
    """Return whether a file or folder can have this name without being skipped as hidden."""
    is_text = not any(unicodedata.category(char) in ("Cc", "Cs") for char in name)
    return (
        is_text
        and bool(name)
        and name == Path(name).name
        and not name.startswith(".")
        and len(name.encode()) <= _MAX_ID_BYTES
    )


def wait_for(paths: Sequence[Path], patience: float = _PATIENCE_SECONDS) -> None:
    """Wait until all files exist.

    Raises:
        RunError: No file was added for ``patience`` seconds.
    """
    remaining, since = len(paths) + 1, time.monotonic()
    while missing := [path for path in paths if not path.is_file()]:
        if len(missing) < remaining:
            remaining, since = len(missing), time.monotonic()
        if time.monotonic() - since > patience:
            raise RunError(
                f"{len(missing)} images from other processes are missing (the first is {missing[0]}); check that all "
                "processes are running, and run the evaluation again"
            )
        time.sleep(_POLL_SECONDS)
