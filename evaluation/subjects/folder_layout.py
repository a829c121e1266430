"""The layouts in which a folder can contain the images of prompts.

    ID/0000.png ...            as ``lightning evaluate`` stores images
    ID/samples/0000.png ...    as GenEval's script stores them; ID/metadata.jsonl then states the prompt
    ID.png

Only these files are images of a prompt. Hidden files and files with other names, such as the grid.png of GenEval's
script, are not. The ids and the numbers may be padded with any number of zeros, and suffixes may be in upper case.
Names may use any Unicode normalization, because macOS does not preserve the normalization of prompt ids.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from datamodules.shards.images import IMAGE_SUFFIXES
from evaluation.contract import Prompt, PromptSet
from pocketdit.errors import UserError

_SAMPLES, _METADATA = "samples", "metadata.jsonl"
# A whole number at the end of a name or before a separator. This excludes the fraction of "1.05" and the digits inside
# a hash, whose zeros are not padding.
_NUMBER = re.compile(r"(?<![0-9])(?<![0-9]\.)[0-9]+(?![0-9A-Za-z])")


@dataclass(frozen=True)
class FoundImages:
    """The images of a prompt.

    Attributes:
        images: Image files, ordered by number.
        others: Image files in the same folders whose names do not follow the layout.
    """

    images: tuple[Path, ...]
    others: tuple[Path, ...]


def find_images(folder: Path, prompts: PromptSet) -> dict[str, FoundImages]:
    """Return a mapping from each prompt id to the prompt's images.

    Raises:
        UserError: The images of a prompt are in two places, or their metadata describes another prompt.
    """
    places: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir():
            places[_unpadded(path.name)].append(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            places[_unpadded(path.stem)].append(path)
    counts = Counter(_unpadded(prompt.id) for prompt in prompts.prompts)
    found = {}
    for prompt in prompts.prompts:
        candidates = places[_unpadded(prompt.id)]
        if counts[_unpadded(prompt.id)] > 1:  # this id differs from another only in its padding
            candidates = [path for path in candidates if prompt.id in (path.name, path.stem)]
        found[prompt.id] = _find(prompt, candidates)
    return found


def _find(prompt: Prompt, candidates: Iterable[Path]) -> FoundImages:
    groups: list[tuple[Path, ...]] = []
    others: list[Path] = []
    for path in candidates:
        if not path.is_dir():
            groups += [(path,)] * _is_image(path)
            continue
        _check_metadata(path / _METADATA, prompt)
        for folder in (path, path / _SAMPLES):
            files = [file for file in sorted(folder.glob("[!.]*")) if _is_image(file)]
            groups.append(_in_order(prompt, [file for file in files if _is_number(file.stem)]))
            others += [file for file in files if not _is_number(file.stem)]
    groups = [group for group in groups if group]
    if len(groups) > 1:
        raise UserError(f"prompt {prompt.id} has images in two places, {groups[0][0]} and {groups[1][0]}; keep one")
    return FoundImages(groups[0] if groups else (), tuple(others))


def _in_order(prompt: Prompt, files: Iterable[Path]) -> tuple[Path, ...]:
    images = sorted(files, key=lambda path: int(path.stem))
    for first, second in pairwise(images):
        if int(first.stem) == int(second.stem):
            raise UserError(f"prompt {prompt.id}: {first} and {second} have the same number; keep one")
    return tuple(images)


def _check_metadata(path: Path, prompt: Prompt) -> None:
    """Check that a folder's metadata, if it has any, describes the prompt."""
    if not path.is_file():
        return
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); correct it or delete it") from error
    expected: Mapping[str, Any] = {**prompt.metadata, "prompt": prompt.text}
    for row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path}: is not a JSON object; correct it or delete it")
        stated, required = _compared(row), _compared(expected)
        for key in stated:
            if key in required and stated[key] != required[key]:
                raise UserError(
                    f"{path}: {key} is {stated[key]!r}, but prompt {prompt.id} of the prompt set has "
                    f"{required[key]!r}; the images were made for other prompts or in a different order"
                )


def _compared(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of GenEval's metadata that determine a score. A missing "exclude" becomes an empty list."""
    fields: dict[str, Any] = {"exclude": []} if "include" in metadata else {}
    return fields | {key: metadata[key] for key in ("prompt", "tag", "include", "exclude") if key in metadata}


def _is_image(path: Path) -> bool:
    """Return whether a path is an image file.

    Raises:
        UserError: The path is a link to a file that does not exist.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: is a link to a file that does not exist; restore the file, or delete the link")
    return path.is_file()


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _unpadded(name: str) -> str:
    """Return a name in Unicode's NFC form, without the zeros that pad its numbers: "color-7" for "color-0007"."""
    return _NUMBER.sub(lambda digits: str(int(digits[0])), unicodedata.normalize("NFC", name))
