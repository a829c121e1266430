"""The validation prompts of T2I-CompBench (github.com/Karine-Huang/T2I-CompBench, folder examples/dataset, MIT)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.assets import Asset
from evaluation.contract import Prompt, PromptSet
from evaluation.metrics.compbench.categories import CATEGORIES, prompt_set_name
from evaluation.metrics.compbench.numeracy import parse_counts, read_vocabulary
from evaluation.metrics.compbench.spatial import parse_relation
from evaluation.metrics.compbench.three_in_one import PARTS
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.text_file import read_lines
from pocketdit.errors import ConfigError, UserError

IMAGES_EACH = 10

_URL = (
    "https://raw.githubusercontent.com/Karine-Huang/T2I-CompBench/1b7094991a57f3c22abdd4f6e8ba6c1a15517073/examples/"
    "dataset"
)
_FILES = {
    "color_val": ("1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d", 11871),
    "shape_val": ("37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae", 15935),
    "texture_val": ("fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f", 14211),
    "spatial_val": ("8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988", 9213),
    "non_spatial_val": ("04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d", 17750),
    "numeracy_val": ("dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe", 10863),
    "complex_val": ("1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4", 22724),
    "complex_val_spatial": ("6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02", 2898),
    "complex_val_action": ("d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e", 17698),
    "complex_val_spatialaction": ("e02ddc7fed812e6577e7386ec2137ce0a994a5ce19771661f68df7ac349a6ca9", 2128),
    "new_objects": ("f39a3d2ff6067d7738673cbf465dc659ccc750776162989a5d9916f1d5f3e231", 1568),
}


class CompBenchPrompts:
    """The 300 validation prompts of one T2I-CompBench category, with 10 images per prompt.

    Args:
        folder: Folder that contains t2i_compbench/.
        category: The category.
        limit: Maximum number of prompts; None uses all.
        images_each: Images per prompt; None uses the benchmark's number.
    """

    assets = tuple(
        Asset("folder", f"t2i_compbench/{name}.txt", f"{_URL}/{name}.txt", sha256, size)
        for name, (sha256, size) in _FILES.items()
    )

    def __init__(self, folder: Path, category: str, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.category = Path(folder), category
        self.limit, self.images_each = limit, images_each

    def load(self) -> PromptSet:
        """Load the prompt set (see ``load_prompts``)."""
        return limit_prompts(load_prompts(self.folder / "t2i_compbench", self.category), self.limit, self.images_each)


def load_prompts(folder: Path, category: str) -> PromptSet:
    """Read the prompts of ``folder``/CATEGORY_val.txt, with ids such as "color-0000".

    The metadata contains the "category" and, in some categories, further entries:

    - spatial: "relation" (see ``parse_relation``).
    - numeracy: "objects", the count of each object, parsed with the vocabulary in new_objects.txt.
    - complex: "relation", which is None if the prompt contains no relation, and "kind", which is spatial, action or
      spatialaction, depending on the file complex_val_KIND.txt that lists the prompt.

    Raises:
        ConfigError: The category is unknown.
        UserError: A file is missing or empty, or a prompt cannot be parsed.
    """
    if category not in CATEGORIES:
        raise ConfigError(f"category must be one of {', '.join(CATEGORIES)}, not {category!r}")
    texts = _read_lines(folder, f"{category}_val.txt")
    prompts = tuple(
        Prompt(f"{category}-{number:04d}", text, {"category": category, **metadata})
        for number, (text, metadata) in enumerate(zip(texts, _parse(folder, category, texts), strict=True))
    )
    return PromptSet(prompt_set_name(category), prompts, IMAGES_EACH)


def _read_lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    lines = read_lines(path, "get the folder examples/dataset of github.com/Karine-Huang/T2I-CompBench")
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError(f"{path}: contains no prompts; download it again")
    return texts


def _parse(folder: Path, category: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the metadata of each text, without the category."""
    match category:
        case "spatial":
            relations = [parse_relation(text) for text in texts]
            _require(folder, texts, relations, "two objects in a relation")
            return [{"relation": relation} for relation in relations]
        case "numeracy":
            vocabulary = read_vocabulary(folder / "new_objects.txt")
            counts = [parse_counts(text, vocabulary) for text in texts]
            _require(folder, texts, counts, "a number followed by an object from new_objects.txt")
            return [{"objects": objects} for objects in counts]
        case "complex":
            kinds = _kinds(folder, texts)
            return [{"kind": kind, "relation": parse_relation(text)} for kind, text in zip(kinds, texts, strict=True)]
        case _:
            return [{} for _ in texts]


def _kinds(folder: Path, texts: Sequence[str]) -> list[str]:
    lists = {kind: set(_read_lines(folder, f"complex_val_{kind}.txt")) for kind in PARTS}
    kinds = [[kind for kind, listed in lists.items() if text in listed] for text in texts]
    for text, matches in zip(texts, kinds, strict=True):
        if len(matches) != 1:
            raise UserError(
                f"{folder}: {text!r} must be listed in exactly one of the files complex_val_*.txt, but is listed in "
                f"{' and '.join(matches) or 'none'}; download these files again"
            )
    return [matches[0] for matches in kinds]


def _require(folder: Path, texts: Sequence[str], parsed: Sequence[object], description: str) -> None:
    for text, item in zip(texts, parsed, strict=True):
        if not item:
            raise UserError(
                f"{folder}: {text!r} does not contain {description}; check that the file contains T2I-CompBench's "
                "validation prompts"
            )
