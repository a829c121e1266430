"""A folder of existing images as a subject."""

from dataclasses import replace
from pathlib import Path

from datamodules.shards.images import IMAGE_SUFFIXES
from evaluation.contract import ImageSet, PromptSet
from evaluation.subjects.image_cache import check_ids
from pocketdit.errors import ConfigError, UserError

_NAMES_SHOWN = 3


class ImageFolder:
    """Images from any source, matched to prompts by the prompt's id, never by position.

    All prompts must have the same number of images. Results state this number, which may be lower than in the
    benchmark's protocol.

    Args:
        path: Folder that contains ``<id>/*.png`` (or any other image), GenEval's ``<id>/samples/*``, or ``<id>.png``.
        name: Name in reports; "" uses the folder's name.

    Raises:
        ConfigError: The folder does not exist.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder of images")
        self.name = name or self.path.name

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Return the images of all prompts.

        Raises:
            UserError: A prompt has no images, or prompts have different numbers of images.
        """
        check_ids(prompts)
        images = {prompt.id: self._find(prompt.id) for prompt in prompts.prompts}
        missing = [name for name, paths in images.items() if not paths]
        if missing:
            shown = ", ".join(missing[:_NAMES_SHOWN])
            raise UserError(
                f"{self.path}: no images for {len(missing)} of {len(images)} prompts of {prompts.name} ({shown}"
                f"{', ...' if len(missing) > _NAMES_SHOWN else ''}); put them into {self.path / missing[0]}/"
            )
        counts = {len(paths) for paths in images.values()}
        if len(counts) > 1:
            fewest = min(images, key=lambda name: len(images[name]))
            raise UserError(
                f"{self.path}: between {min(counts)} and {max(counts)} images per prompt, the fewest for {fewest}; "
                "provide the same number for all prompts"
            )
        prompts = replace(prompts, images_each=counts.pop())
        return ImageSet(prompts, images, {"subject": "folder", "path": str(self.path), "name": self.name})

    def _find(self, name: str) -> tuple[Path, ...]:
        for folder in (self.path / name / "samples", self.path / name):
            if images := _images_in(folder):
                return images
        return tuple(path for suffix in IMAGE_SUFFIXES if (path := self.path / f"{name}{suffix}").is_file())[:1]


def _images_in(folder: Path) -> tuple[Path, ...]:
    paths = sorted(folder.glob("[!.]*"))
    return tuple(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
