"""Class names, from which captions are made."""

import json
import re
from pathlib import Path

from datamodules.captions.fields import clean_captions
from pocketdit.errors import ConfigError, UserError

TEMPLATE = "a photo of a {}"
_SYNSET = re.compile(r"n\d{8}")


def is_synset(name: str) -> bool:
    """Return whether a folder's name is a WordNet ID, as in ImageNet."""
    return _SYNSET.fullmatch(name) is not None


class ClassNames:
    """Captions for the images in class folders, made from the names of the classes.

    Args:
        file: File that lists the names of classes, either in lines such as "n01440764 tench, Tinca tinca" (as in
            LOC_synset_mapping.txt) or as a JSON object. If None, timm provides the names for the WordNet IDs of
            ImageNet-1K, and other classes are named after their folders.
        template: The caption, in which "{}" is replaced with the name of the class. If a class has several names that
            are separated by commas, the first name is used.

    Raises:
        UserError: The file cannot be read.
        ConfigError: The template does not contain "{}" exactly once.
    """

    def __init__(self, file: Path | None, template: str | None) -> None:
        self._template = TEMPLATE if template is None else template
        if self._template.count("{}") != 1:
            raise ConfigError(f"--template {self._template!r}: must contain {{}} exactly once, for the class name")
        self._names = _read_names(file) if file else None
        self._file = file

    def caption(self, folder: str) -> str | None:
        """Return the caption of the images of a class, or None if the class has no name."""
        if self._names is None and is_synset(folder):
            self._names = _imagenet_names()
        name = (self._names or {}).get(folder)
        if name is None and (is_synset(folder) or self._file is not None):
            return None
        text = (name or folder.replace("_", " ")).split(",")[0].strip()
        return self._template.replace("{}", text) if text else None

    def __str__(self) -> str:
        names = f"from {self._file}" if self._file else "of ImageNet-1K" if self._names else "of the folders"
        return f"captions are {self._template!r} with the class names {names}"


def _read_names(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            names = json.loads(text)
            if not isinstance(names, dict):
                raise ValueError("not a JSON object")
            return {str(key): clean_captions([value])[0] for key, value in names.items()}
        pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        if short := next((pair for pair in pairs if len(pair) < 2), None):
            raise ValueError(f"{short[0]!r} has no name after it")
        return {key: name.strip() for key, name in pairs}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as class names ({error})") from error


def _imagenet_names() -> dict[str, str]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return {name: str(info.label_name_to_description(name)) for name in info.label_names()}
