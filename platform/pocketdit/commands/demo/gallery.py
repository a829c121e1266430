"""Saves the images of a session in a folder with the file formats of ``lightning sample --out``.

OUT/2026-11-30_16-05-00/metadata.jsonl    one line per image: file_name, text (the prompt) and the settings
OUT/2026-11-30_16-05-00/00000.png         the settings are also in the file's text chunks
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from pocketdit.commands.sample.images import metadata_line, write_image, write_metadata
from pocketdit.errors import RunError


@dataclass(frozen=True)
class Picture:
    """An image of the session.

    Attributes:
        line: The image's entry in metadata.jsonl: file name, prompt and settings.
        seconds: Sampling time in seconds. The images of a batch each have an equal share of the batch's time.
        query: Query of the link that restores the settings of the image's request.
    """

    line: dict[str, Any]
    seconds: float
    query: str

    def as_json(self) -> dict[str, Any]:
        """Return the picture as values that JSON can represent."""
        return {"settings": self.line, "seconds": self.seconds, "query": self.query}


class Gallery:
    """The images of a session.

    Args:
        out: Folder in which the folder of the session is created when the first image is saved.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
        self._pictures: dict[str, Picture] = {}

    def add(
        self,
        images: Iterable[Tensor],
        prompts: Iterable[str],
        settings: dict[str, Any],
        notice: str,
        seconds: float,
        query: str,
    ) -> list[Picture]:
        """Save the images of one batch.

        Args:
            images: The images as uint8, (3, H, W) each.
            prompts: The prompt of each image.
            settings: The settings of all of the images, as ``Model.describe`` returns them.
            notice: The run's notice, which is stored in every file.
            seconds: Sampling time per image in seconds.
            query: Query of the link that restores the settings.

        Raises:
            RunError: An image cannot be written.
        """
        added = {}
        try:
            for number, (image, prompt) in enumerate(zip(images, prompts, strict=True), len(self._pictures)):
                path = self.folder / f"{number:05d}.png"
                write_image(image, prompt, path, json.dumps(settings), notice)
                added[path.name] = Picture(metadata_line(Path(path.name), prompt, settings), seconds, query)
            lines = (picture.line for picture in (*self._pictures.values(), *added.values()))
            write_metadata(self.folder, lines)
        except OSError as error:
            raise RunError(
                f"the images cannot be saved ({error.strerror}); make sure that the folder is writable and has free "
                "space, then sample again"
            ) from error
        self._pictures |= added
        return list(added.values())

    def pictures(self) -> list[Picture]:
        """Return all images, oldest first."""
        return list(self._pictures.values())

    def file(self, name: str) -> Path | None:
        """Return the path of the image with this file name, or None if the session has no such image."""
        path = self.folder / name
        return path if name in self._pictures and path.is_file() else None
