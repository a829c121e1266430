"""Prompts about scenes in the formats of three benchmarks, for judges that need no downloads.

All prompts are captions of the validation split (see ``split_of``), and the same arguments yield the same prompts. The
metadata has the published format, plus the "width" and "height" of the image. One image per prompt is enough, because
more prompts are more informative than more images per prompt.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.scene import SIZES
from datamodules.scenes.split import generate_scenes
from evaluation.contract import Prompt, PromptSet
from evaluation.scenes.prompts.held_out import held_out_caption, random_size
from evaluation.scenes.prompts.question_graph import question_graph
from pocketdit.errors import ConfigError

Tag = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TAGS: tuple[Tag, ...] = get_args(Tag)
CATEGORIES = ("color", "shape", "spatial", "numeracy", "complex")

# Maps GenEval's tags to the groups of ``held_out_caption``.
_GROUPS: dict[Tag, str] = {
    "single_object": "single_object",
    "two_object": "color_attr",
    "counting": "counting",
    "colors": "single_object",
    "position": "position",
    "color_attr": "color_attr",
}
_TAGS_WITH_COLOR: tuple[Tag, ...] = ("colors", "color_attr")
_COMPBENCH_RELATIONS = {
    "left of": "on the left of",
    "right of": "on the right of",
    "above": "on the top of",
    "below": "on the bottom of",
}


def scene_geneval(count: int, seed: int) -> PromptSet:
    """Return prompts that cycle through GenEval's six tags, with the ids "00000", "00001" and so on.

    The classes are shapes. Captions of scenes name the color of every object, but the metadata requires only what the
    tag requires in GenEval:

    - single_object: A shape of any color.
    - two_object: Two shapes of any color.
    - counting: An exact number of one shape.
    - position: Two shapes of any color in a given relation.
    - colors: A shape of a given color.
    - color_attr: Two shapes, each of a given color.

    Two objects always differ in shape, because GenEval considers only the best detection of a class. Some prompts
    mention a size, place or background, which is never judged. No prompt is repeated until the held-out captions of its
    group run out, not even across tags that share a group (single_object and colors, two_object and color_attr). The
    smallest group, counting, has about 40 captions.

    Args:
        count: Number of prompts.
        seed: Seed for drawing the prompts.
    """
    rng = np.random.default_rng(seed)
    used: dict[str, set[str]] = {group: set() for group in _GROUPS.values()}
    prompts = []
    for number in range(count):
        tag = TAGS[number % len(TAGS)]
        text = held_out_caption(_GROUPS[tag], rng, used[_GROUPS[tag]], _has_different_shapes)
        metadata = {"tag": tag, **_geneval_clauses(text, tag in _TAGS_WITH_COLOR), "prompt": text}
        prompts.append(_prompt_with_size(f"{number:05d}", text, metadata, rng))
    return PromptSet("scene-geneval", tuple(prompts))


def _geneval_clauses(text: str, with_color: bool) -> dict[str, Any]:
    expectation = parse_expectation(text)
    keys = ("class", "count", "position", "color") if with_color else ("class", "count", "position")
    return {
        name: [{key: value for key, value in clause.items() if key in keys} for clause in expectation[name]]
        for name in ("include", "exclude")
        if name in expectation
    }


def scene_dpg(count: int, seed: int) -> PromptSet:
    """Return long captions of validation scenes, with questions from ``question_graph`` in the metadata.

    Only the short caption of a scene is guaranteed to be absent from training. A training scene can have the same long
    caption as a simple validation scene.

    Args:
        count: Number of prompts.
        seed: Seed of the scenes.
    """
    prompts = []
    for number, sample in enumerate(generate_scenes("validation", count, seed)):
        size = {"width": sample.scene.width, "height": sample.scene.height}
        graph = question_graph(sample.scene, turn=number)
        prompts.append(Prompt(f"scene-{sample.id}", sample.captions[1], {**graph, **size}))
    return PromptSet("scene-dpg", tuple(prompts))


def scene_compbench(category: str, count: int, seed: int) -> PromptSet:
    """Return short captions for one of T2I-CompBench's categories, with the ids "<category>-0000" and so on.

    - color: Two objects of different colors.
    - shape: Two objects of different shapes and the same color.
    - spatial: Two shapes in a relation.
    - numeracy: Two to four objects of one shape.
    - complex: Two shapes in a relation, with sizes or the background. Their kind is "spatial", because scenes do not
      show actions.

    The metadata contains "category", "relation" for spatial and complex prompts (in T2I-CompBench's words, such as "on
    the left of"), "objects" for numeracy (the count of each shape), and "kind" for complex prompts.

    Args:
        category: One of ``CATEGORIES``.
        count: Number of prompts.
        seed: Seed for drawing the prompts.

    Raises:
        ConfigError: The category is unknown.
    """
    group, is_suitable = _caption_form(category)
    rng = np.random.default_rng((seed, CATEGORIES.index(category)))
    used: set[str] = set()
    prompts = []
    for number in range(count):
        text = held_out_caption(group, rng, used, is_suitable)
        metadata = {"category": category, **_compbench_metadata(category, text)}
        prompts.append(_prompt_with_size(f"{category}-{number:04d}", text, metadata, rng))
    return PromptSet(f"scene-compbench-{category}", tuple(prompts))


def _caption_form(category: str) -> tuple[str, Callable[[str], bool]]:
    """Return the category's group of captions, and a predicate that accepts suitable captions."""
    match category:
        case "color":
            return "color_attr", lambda text: _all_differ(text, "color")
        case "shape":
            return "color_attr", lambda text: _all_differ(text, "class") and not _all_differ(text, "color")
        case "spatial":
            return "position", _has_different_shapes
        case "numeracy":
            return "counting", lambda text: True
        case "complex":
            return "position", lambda text: _has_different_shapes(text) and _mentions_size_or_background(text)
        case _:
            raise ConfigError(f"category {category!r}: choose one of {', '.join(CATEGORIES)}")


def _compbench_metadata(category: str, text: str) -> dict[str, Any]:
    include = parse_expectation(text)["include"]
    match category:
        case "numeracy":
            return {"objects": {clause["class"]: clause["count"] for clause in include}}
        case "spatial" | "complex":
            second, first = include
            names = [f"{clause['color']} {clause['class']}" for clause in (first, second)]
            relation = _COMPBENCH_RELATIONS[first["position"][0]]
            metadata = {"relation": {"first": names[0], "relation": relation, "second": names[1]}}
            return {**metadata, "kind": "spatial"} if category == "complex" else metadata
        case _:
            return {}


def _has_different_shapes(text: str) -> bool:
    return _all_differ(text, "class")


def _all_differ(text: str, key: str) -> bool:
    values = [clause[key] for clause in parse_expectation(text)["include"]]
    return len(set(values)) == len(values)


def _mentions_size_or_background(text: str) -> bool:
    return "background" in text or any(size in text.split() for size in SIZES)


def _prompt_with_size(prompt_id: str, text: str, metadata: dict[str, Any], rng: np.random.Generator) -> Prompt:
    width, height = random_size(rng)
    return Prompt(prompt_id, text, {**metadata, "width": width, "height": height})
