"""Captions of MS-COCO (Lin et al. 2014, arXiv 1405.0312) as prompts, from a file that the user downloads."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.text_file import read_text
from pocketdit.errors import ConfigError

_SOURCE = "get captions_val2014.json from annotations_trainval2014.zip at cocodataset.org"


class CocoCaptions:
    """One caption per image, for random images of MS-COCO.

    The caption is the image's first one, in the order of annotation ids. Each prompt has the id of its image.

    Args:
        path: File of captions in COCO's format, such as captions_val2014.json.
        count: Number of images, drawn without replacement; None uses all.
        seed: Seed for drawing the images.
        images_each: Images per prompt.

    Raises:
        ConfigError: ``count`` or ``images_each`` is below 1.
    """

    def __init__(self, path: Path, count: int | None = None, seed: int = 0, images_each: int = 1) -> None:
        for name, value in (("count", count), ("images_each", images_each)):
            if value is not None and value < 1:
                raise ConfigError(f"CocoCaptions: {name} must be at least 1, not {value}")
        self.path, self.count, self.seed, self.images_each = Path(path), count, seed, images_each

    def load(self) -> PromptSet:
        """Read the file and draw the prompts, which are sorted by id.

        Raises:
            ConfigError: The file cannot be read, is not in COCO's format, or contains fewer than ``count`` images.
        """
        captions = self._captions()
        if self.count is not None and self.count > len(captions):
            raise ConfigError(f"{self.path}: contains captions of {len(captions)} images, but count is {self.count}")
        chosen = sorted(captions)
        if self.count is not None:
            rows = np.random.default_rng(self.seed).choice(len(chosen), self.count, replace=False)
            chosen = [chosen[row] for row in sorted(rows)]
        prompts = tuple(Prompt(f"{image:012d}", captions[image], {"image_id": image}) for image in chosen)
        return PromptSet(f"coco-{self.path.stem}", prompts, self.images_each)

    def _captions(self) -> dict[int, str]:
        """Return the first caption of each image."""
        try:
            annotations: list[Any] = json.loads(read_text(self.path, _SOURCE))["annotations"]
            rows = sorted((int(row["id"]), int(row["image_id"]), str(row["caption"]).strip()) for row in annotations)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path}: does not contain captions in COCO's format; {_SOURCE}") from error
        captions: dict[int, str] = {}
        for _, image, caption in rows:
            if caption:
                captions.setdefault(image, caption)
        if not captions:
            raise ConfigError(f"{self.path}: contains no captions; {_SOURCE}")
        return captions
