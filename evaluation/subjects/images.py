"""Pictures of a prompt set, made once: kept under a key of everything that decides them, resumed, shared by ranks.

    ROOT/<key>/manifest.json              how the pictures are made, and of which prompts
    ROOT/<key>/<prompt id>/0000.png ...   one file a picture, by prompt and by number

Several processes (torchrun's RANK and WORLD_SIZE, or SLURM's) each make every n-th prompt; they meet in the folder.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from tqdm import tqdm

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import write_atomically

_POLL_SECONDS = 2.0
_LAST_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG


class Drawer(Protocol):
    """Makes pictures. ``provenance``: everything that decides them, ready for JSON."""

    def provenance(self) -> dict[str, Any]: ...

    def draw(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        """The ``number``-th picture of every prompt, in any order."""
        ...


@dataclass(frozen=True)
class Share:
    """Which part of the prompts this process makes."""

    rank: int = 0
    processes: int = 1


def share_of_environment(environment: Mapping[str, str] = os.environ) -> Share:
    """From torchrun's or SLURM's variables; one process where there are none."""
    for rank, processes in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in environment and processes in environment:
            return Share(int(environment[rank]), int(environment[processes]))
    return Share()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def image_folder(root: Path, provenance: Mapping[str, Any], prompts: PromptSet) -> Path:
    """Where pictures of this making and these prompts lie."""
    return root / fingerprint({"made": provenance, "prompts": asdict(prompts)})[:16]


def draw_images(drawer: Drawer, prompts: PromptSet, root: Path, share: Share | None = None) -> ImageSet:
    """The pictures that ``prompts.images_each`` asks for; only those that are not there yet are made.

    Returns when the pictures of all processes are there. Raises ``UserError`` where two prompts have one id or an id
    is no file name, ``RunError`` where another process makes none for ten minutes.
    """
    check_ids(prompts)
    share = share or share_of_environment()
    provenance = drawer.provenance()
    folder = image_folder(root, provenance, prompts)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"made": provenance, "prompts": asdict(prompts)}
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1, default=str) + "\n")
    mine = prompts.prompts[share.rank :: share.processes]
    missing = {
        number: [prompt for prompt in mine if not whole(picture_path(folder, prompt, number))]
        for number in range(prompts.images_each)
    }
    total = sum(map(len, missing.values()))
    with tqdm(total=total, desc=f"drawing {prompts.name}", unit="picture", disable=not total) as progress:
        for number, some in missing.items():
            for prompt, picture in drawer.draw(some, number) if some else ():
                encoded = io.BytesIO()
                Image.fromarray(picture).save(encoded, "png")
                path = picture_path(folder, prompt, number)
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, encoded.getvalue())
                progress.update()
    images = {
        prompt.id: tuple(picture_path(folder, prompt, number) for number in range(prompts.images_each))
        for prompt in prompts.prompts
    }
    if share.processes > 1:
        wait_for([path for paths in images.values() for path in paths])
    return ImageSet(prompts, images, provenance)


def whole(path: Path) -> bool:
    """Whether a PNG is there with its last chunk; one that was cut short is made again."""
    if not path.is_file() or path.stat().st_size < len(_LAST_CHUNK):
        return False
    with path.open("rb") as file:
        file.seek(-len(_LAST_CHUNK), os.SEEK_END)
        return file.read() == _LAST_CHUNK


def picture_path(folder: Path, prompt: Prompt, number: int) -> Path:
    return folder / prompt.id / f"{number:04d}.png"


def check_ids(prompts: PromptSet) -> None:
    ids = [prompt.id for prompt in prompts.prompts]
    if not ids:
        raise ConfigError(f"prompt set {prompts.name}: no prompts; its count or limit must be at least 1")
    twice = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise UserError(f"prompt set {prompts.name}: the id {twice[0]!r} stands there twice")
    for name in ids:
        if not name or name != Path(name).name or name.startswith("."):
            raise UserError(f"prompt set {prompts.name}: the id {name!r} is no plain file name")


def wait_for(paths: Sequence[Path], patience: float = 600.0) -> None:
    """Until all files are there; ``RunError`` where none is added for ``patience`` seconds."""
    left, since = len(paths) + 1, time.monotonic()
    while missing := [path for path in paths if not path.is_file()]:
        if len(missing) < left:
            left, since = len(missing), time.monotonic()
        if time.monotonic() - since > patience:
            raise RunError(f"{len(missing)} pictures of other processes do not come, the first: {missing[0]}")
        time.sleep(_POLL_SECONDS)
