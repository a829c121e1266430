"""A folder of existing images as a subject."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evaluation.contract import ImageSet, PromptSet
from evaluation.subjects.folder_layout import FoundImages, find_images
from evaluation.subjects.image_cache import check_ids
from pocketdit.errors import ConfigError, UserError
from pocketdit.files import sha256_of

_NAMES_SHOWN = 3


class ImageFolder:
    """Images from any source, matched to prompts by prompt id, never by position.

    All prompts must have the same number of images. Results state this number, which may be lower than in the
    benchmark's protocol. If prompts of different sets have the same id, the images of each set belong in a separate
    subfolder.

    Args:
        path: Folder that contains ``<id>/<number>.png``, GenEval's ``<id>/samples/<number>.png``, or ``<id>.png``, with
            the suffix of any image format. Only these files are scored. If the folder has a subfolder with the name of
            a prompt set, that subfolder contains the set's images.
        name: Name in reports; "" uses the folder's name.

    Raises:
        ConfigError: The folder does not exist.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder")
        self.name = name or self.path.name
        self._prompts: dict[Path, tuple[str, str]] = {}  # the set and the text of each image's prompt

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Return the images of all prompts.

        The provenance contains a hash of the images, so different images under the same names yield different results.

        Raises:
            UserError: A prompt has no images, an image was made for another prompt or has already been matched to
                another prompt, or prompts have different numbers of images.
        """
        check_ids(prompts)
        own = self.path / prompts.name
        found = find_images(own if own.is_dir() else self.path, prompts)
        self._require_images(prompts, found)
        self._require_own_images(prompts, found)
        self._print_others(found)
        images = {name: files.images for name, files in found.items()}
        counts = {len(paths) for paths in images.values()}
        if len(counts) > 1:
            fewest = min(images, key=lambda name: len(images[name]))
            raise UserError(
                f"{self.path}: between {min(counts)} and {max(counts)} images per prompt (fewest for {fewest}); "
                "provide the same number for all prompts"
            )
        prompts = replace(prompts, images_each=counts.pop())
        made = {"subject": "folder", "path": str(self.path), "name": self.name, "images_sha256": _digest(images)}
        return ImageSet(prompts, images, made)

    def _require_images(self, prompts: PromptSet, found: Mapping[str, FoundImages]) -> None:
        missing = [name for name, files in found.items() if not files.images]
        if not missing:
            return
        shown = ", ".join([*missing[:_NAMES_SHOWN], *(["..."] if len(missing) > _NAMES_SHOWN else [])])
        others = next((found[name].others for name in missing if found[name].others), ())
        remedy = (
            f"the name of {others[0]} is not a number; rename it to {others[0].with_stem('0000')}"
            if others
            else f"put them into {self.path / missing[0]}/"
        )
        raise UserError(
            f"{self.path}: no images for {len(missing)} of {len(found)} prompts of {prompts.name} ({shown}); {remedy}"
        )

    def _require_own_images(self, prompts: PromptSet, found: Mapping[str, FoundImages]) -> None:
        """Check that no image has been matched to a different text in a previous prompt set."""
        for prompt in prompts.prompts:
            for path in found[prompt.id].images:
                name, text = self._prompts.setdefault(path, (prompts.name, prompt.text))
                if text != prompt.text:
                    raise UserError(
                        f"{path}: matches the id {prompt.id} of two prompts, {text!r} of {name} and {prompt.text!r} of "
                        f"{prompts.name}; put the images of {prompts.name} into {self.path / prompts.name}/"
                    )

    def _print_others(self, found: Mapping[str, FoundImages]) -> None:
        if others := [path for files in found.values() for path in files.others]:
            print(
                f"{self.path}: {len(others)} image files, such as {others[0].relative_to(self.path)}, are not scored "
                "because their names are not numbers"
            )


def _digest(images: Mapping[str, tuple[Path, ...]]) -> str:
    """Return a hash of the contents of all images, in order."""
    digest = hashlib.sha256()
    for paths in images.values():
        for path in paths:
            try:
                digest.update(bytes.fromhex(sha256_of(path)))
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
