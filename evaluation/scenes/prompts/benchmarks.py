"""Prompts about scenes in the forms of three benchmarks, for judges that need no download.

All prompts are captions of the validation split (``split_of``), and equal arguments give equal prompts. The metadata
have the published form, with the image's "width" and "height" added. Each prompt is meant for one image: more prompts
are more informative than more images per prompt.
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

# GenEval's tag: the group of ``held_out_caption`` with captions of that form.
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
    """Return prompts for GenEval's six tags in turn, with the ids "00000", "00001", ...

    A class is a shape. The captions of scenes name every object's color, but a tag only asks for what it asks for in
    GenEval:

    - single_object: a shape of any color;
    - two_object: two shapes of any color;
    - counting: a number of one shape, and not one more;
    - position: two shapes of any color in their relation;
    - colors: a shape in its color;
    - color_attr: two shapes, each in its color.

    Two objects always differ in shape, because GenEval only looks at the best detection of a class. Some prompts
    mention a size, place or background, which is never judged. The tags single_object and colors share no prompt, nor
    do two_object and color_attr, until the held-out captions run out, which counting's do first, after about 40.

    Args:
        count: Number of prompts.
        seed: Seed of the choice of prompts.
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
    """Return long captions of validation scenes with their ``question_graph``, with the ids "scene-<seed>-...".

    Only the short caption of a scene is guaranteed to be absent from training. The long caption of a simple scene can
    be that of a training scene too.

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
    """Return short captions for one of T2I-CompBench's categories, with the ids "<category>-0000", ...

    - color: two objects of different colors;
    - shape: two objects of different shapes and the same color;
    - spatial: two shapes in a relation;
    - numeracy: two to four objects of one shape;
    - complex: two shapes in a relation, with sizes or the background. They are of kind "spatial", because scenes show
      no actions.

    The metadata are "category", "relation" for spatial and complex prompts (in CompBench's words, for example "on the
    left of"), "objects" for numeracy (the number of each shape), and "kind" for complex prompts.

    Args:
        category: One of ``CATEGORIES``.
        count: Number of prompts.
        seed: Seed of the choice of prompts.

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
    """Return the category's group of captions, and a predicate for the suitable ones."""
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
