"""Drawn scenes' own prompts in the forms of three benchmarks, for judges that need no download.

All are captions of the validation split (``split_of``), always the same for the same count and seed. Metadata are in
the published form, with the picture's "width" and "height" added. Each prompt is meant for one picture: more prompts
tell more than more pictures of one.
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

# As held_out.GROUPS calls the forms of captions.
_GROUPS: dict[Tag, str] = {
    "single_object": "single_object",
    "two_object": "color_attr",
    "counting": "counting",
    "colors": "single_object",
    "position": "position",
    "color_attr": "color_attr",
}
_COLORED: tuple[Tag, ...] = ("colors", "color_attr")
_SIDES = {
    "left of": "on the left of",
    "right of": "on the right of",
    "above": "on the top of",
    "below": "on the bottom of",
}


def scene_geneval(count: int, seed: int) -> PromptSet:
    """``count`` prompts in GenEval's six tags, in turn; ids "00000" on.

    A class is a shape. Scenes' captions name every object's colour, but a tag asks what it asks in GenEval:
    single_object for one shape ("a red circle": any circle will do), two_object for two shapes, counting for so
    many of a shape and not one more, position for two shapes in their relation, all without colour; colors for one
    shape and color_attr for two, each in its colour. Two objects always differ in shape, because GenEval looks at
    the best detection of a class alone. Size, place and background are told in some prompts and judged in none.
    The tags single_object and colors share no prompt, nor do two_object and color_attr, until the held-out captions
    run out: counting's first, after about 40.
    """
    rng = np.random.default_rng(seed)
    seen: dict[str, set[str]] = {group: set() for group in _GROUPS.values()}
    prompts = []
    for number in range(count):
        tag = TAGS[number % len(TAGS)]
        text = held_out_caption(_GROUPS[tag], rng, seen[_GROUPS[tag]], _different_shapes)
        metadata = {"tag": tag, **_clauses(text, tag in _COLORED), "prompt": text}
        prompts.append(_sized(f"{number:05d}", text, metadata, rng))
    return PromptSet("scene-geneval", tuple(prompts))


def _clauses(text: str, colored: bool) -> dict[str, Any]:
    asked = parse_expectation(text)
    kept = ("class", "count", "position", "color") if colored else ("class", "count", "position")
    return {
        name: [{key: value for key, value in clause.items() if key in kept} for clause in asked[name]]
        for name in ("include", "exclude")
        if name in asked
    }


def scene_dpg(count: int, seed: int) -> PromptSet:
    """Long captions of ``count`` validation scenes with ``question_graph``'s questions; ids "scene-<seed>-...".

    It is the scene's short caption that training never saw; the long one of a simple scene may be that of a training
    scene too.
    """
    prompts = []
    for number, sample in enumerate(generate_scenes("validation", count, seed)):
        size = {"width": sample.scene.width, "height": sample.scene.height}
        graph = question_graph(sample.scene, turn=number)
        prompts.append(Prompt(f"scene-{sample.id}", sample.captions[1], {**graph, **size}))
    return PromptSet("scene-dpg", tuple(prompts))


def scene_compbench(category: str, count: int, seed: int) -> PromptSet:
    """``count`` prompts of one of T2I-CompBench's categories, in short captions; ids "<category>-0000" on.

    color: two objects of different colours. shape: two of different shapes and the same colour. spatial: two shapes
    in a relation. numeracy: two to four of one shape. complex: two in a relation, with sizes or the background, of
    kind "spatial" (scenes hold no actions). Metadata: "category"; "relation" of spatial and complex prompts in
    CompBench's own words ("on the left of"); "objects" of numeracy, the number by shape; "kind" of complex ones.

    Raises:
        ConfigError: there is no such category.
    """
    group, wanted = _form(category)
    rng = np.random.default_rng((seed, CATEGORIES.index(category)))
    seen: set[str] = set()
    prompts = []
    for number in range(count):
        text = held_out_caption(group, rng, seen, wanted)
        metadata = {"category": category, **_extras(category, text)}
        prompts.append(_sized(f"{category}-{number:04d}", text, metadata, rng))
    return PromptSet(f"scene-compbench-{category}", tuple(prompts))


def _form(category: str) -> tuple[str, Callable[[str], bool]]:
    """Group of captions, and which of them."""
    match category:
        case "color":
            return "color_attr", lambda text: _differ(text, "color")
        case "shape":
            return "color_attr", lambda text: _differ(text, "class") and not _differ(text, "color")
        case "spatial":
            return "position", _different_shapes
        case "numeracy":
            return "counting", lambda text: True
        case "complex":
            return "position", lambda text: _different_shapes(text) and _tells_more(text)
        case _:
            raise ConfigError(f"category {category!r}: drawn scenes have {', '.join(CATEGORIES)}")


def _extras(category: str, text: str) -> dict[str, Any]:
    include = parse_expectation(text)["include"]
    match category:
        case "numeracy":
            return {"objects": {clause["class"]: clause["count"] for clause in include}}
        case "spatial" | "complex":
            second, first = include
            names = [f"{clause['color']} {clause['class']}" for clause in (first, second)]
            relation = {"first": names[0], "relation": _SIDES[first["position"][0]], "second": names[1]}
            return {"relation": relation, **({"kind": "spatial"} if category == "complex" else {})}
        case _:
            return {}


def _different_shapes(text: str) -> bool:
    return _differ(text, "class")


def _differ(text: str, what: str) -> bool:
    values = [clause[what] for clause in parse_expectation(text)["include"]]
    return len(set(values)) == len(values)


def _tells_more(text: str) -> bool:
    return "background" in text or any(size in text.split() for size in SIZES)


def _sized(name: str, text: str, metadata: dict[str, Any], rng: np.random.Generator) -> Prompt:
    width, height = random_size(rng)
    return Prompt(name, text, {**metadata, "width": width, "height": height})
