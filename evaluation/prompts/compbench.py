"""The validation prompts of T2I-CompBench (github.com/Karine-Huang/T2I-CompBench, folder examples/dataset, MIT)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.contract import Prompt, PromptSet
from evaluation.metrics.compbench.categories import CATEGORIES, prompt_set_name
from evaluation.metrics.compbench.numeracy import counts, read_vocabulary
from evaluation.metrics.compbench.spatial import relation
from evaluation.metrics.compbench.three_in_one import PARTS
from evaluation.prompts.limits import limited
from pocketdit.errors import ConfigError, UserError

IMAGES_EACH = 10


class CompBenchPrompts:
    """300 validation prompts of a category of T2I-CompBench, 10 pictures each."""

    def __init__(self, folder: Path, category: str, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.category = Path(folder), category
        self.limit, self.images_each = limit, images_each

    def load(self) -> PromptSet:
        return limited(load_prompts(self.folder / "t2i_compbench", self.category), self.limit, self.images_each)


def load_prompts(folder: Path, category: str) -> PromptSet:
    """The prompts of ``<category>_val.txt`` in ``folder``, 300 in the published file, with ids "<category>-0000".

    Metadata: "category"; for spatial prompts "relation" (see ``relation``); for numeracy "objects", the numbers asked
    by object, read with new_objects.txt; for complex prompts "relation" (None where the prompt has none) and "kind",
    spatial, action or spatialaction, by the file complex_val_<kind>.txt that lists it.

    Raises:
        UserError: a file is missing, or a prompt has not what its scorer needs.
    """
    if category not in CATEGORIES:
        raise ConfigError(f"category {category!r}: T2I-CompBench has {', '.join(CATEGORIES)}")
    texts = _lines(folder, f"{category}_val.txt")
    prompts = tuple(
        Prompt(f"{category}-{number:04d}", text, {"category": category, **extras})
        for number, (text, extras) in enumerate(zip(texts, _extras(folder, category, texts), strict=True))
    )
    return PromptSet(prompt_set_name(category), prompts, IMAGES_EACH)


def _lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give the folder examples/dataset "
            "of github.com/Karine-Huang/T2I-CompBench"
        ) from error
    texts = [line for line in lines if line]
    if not texts:
        raise UserError(f"{path}: holds no prompt; download it again")
    return texts


def _extras(folder: Path, category: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    match category:
        case "spatial":
            relations = [relation(text) for text in texts]
            _require(folder, texts, relations, "two objects in a relation")
            return [{"relation": found} for found in relations]
        case "numeracy":
            vocabulary = read_vocabulary(folder / "new_objects.txt")
            objects = [counts(text, vocabulary) for text in texts]
            _require(folder, texts, objects, "a number before an object of new_objects.txt")
            return [{"objects": found} for found in objects]
        case "complex":
            kinds = _kinds(folder, texts)
            return [{"kind": kind, "relation": relation(text)} for kind, text in zip(kinds, texts, strict=True)]
        case _:
            return [{} for _ in texts]


def _kinds(folder: Path, texts: Sequence[str]) -> list[str]:
    lists = {kind: set(_lines(folder, f"complex_val_{kind}.txt")) for kind in PARTS}
    kinds = [[kind for kind, listed in lists.items() if text in listed] for text in texts]
    for text, listing in zip(texts, kinds, strict=True):
        if len(listing) != 1:
            where = " and ".join(listing) or "none"
            raise UserError(f"{folder}: {text!r} is in {where} of complex_val_*.txt, not in one; download them again")
    return [listing[0] for listing in kinds]


def _require(folder: Path, texts: Sequence[str], found: Sequence[object], what: str) -> None:
    for text, item in zip(texts, found, strict=True):
        if not item:
            raise UserError(f"{folder}: {text!r} lacks {what}; is it a file of T2I-CompBench's validation prompts?")
