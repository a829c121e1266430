"""A folder of images."""

from dataclasses import replace
from pathlib import Path

from evaluation.contract import ImageSet, PromptSet
from evaluation.subjects.images import check_ids
from pocketdit.errors import ConfigError, UserError

_NAMES_SHOWN = 3


class ImageFolder:
    """Pictures that something else made, found by the prompt's id, never by position.

    Under ``path``: ``<id>/*.png`` (or jpg, webp), GenEval's ``<id>/samples/*``, or ``<id>.png``. All prompts need
    equally many; results say sampling many there are, which may be fewer than a benchmark's protocol asks for.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder of pictures")
        self.name = name or self.path.name

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """``UserError`` where a prompt has no picture."""
        check_ids(prompts)
        found = {prompt.id: self._find(prompt.id) for prompt in prompts.prompts}
        without = [name for name, paths in found.items() if not paths]
        if without:
            shown = ", ".join(without[:_NAMES_SHOWN])
            raise UserError(
                f"{self.path}: no picture for {len(without)} of {len(found)} prompts of {prompts.name} ({shown}"
                f"{', ...' if len(without) > _NAMES_SHOWN else ''}); they belong into {self.path / without[0]}/"
            )
        counts = {len(paths) for paths in found.values()}
        if len(counts) > 1:
            fewest = min(found, key=lambda name: len(found[name]))
            raise UserError(
                f"{self.path}: from {min(counts)} to {max(counts)} pictures a prompt, fewest for {fewest}; "
                "give all equally many"
            )
        prompts = replace(prompts, images_each=counts.pop())
        return ImageSet(prompts, found, {"subject": "folder", "path": str(self.path), "name": self.name})

    def _find(self, name: str) -> tuple[Path, ...]:
        for folder in (self.path / name / "samples", self.path / name):
            if pictures := sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES):
                return tuple(pictures)
        return tuple(path for suffix in _SUFFIXES if (path := self.path / f"{name}{suffix}").is_file())[:1]


_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
