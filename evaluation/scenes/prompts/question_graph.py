"""Questions that a scene's long caption answers with yes, as a dependency graph in DPG-Bench's format."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from datamodules.scenes.captions import place_of
from datamodules.scenes.phrases import NUMBER_WORDS
from datamodules.scenes.scene import Object, Scene, clear_relation

_NUMBER_WORDS = {1: "one", **NUMBER_WORDS}
_MAX_RELATIONS = 2  # a long caption mentions at most this many relations


class _QuestionGraph:
    """Questions numbered from 1, each with its tuple and the numbers of its parents (0 for none)."""

    def __init__(self) -> None:
        self.questions: dict[str, str] = {}
        self.tuples: dict[str, str] = {}
        self.dependencies: dict[str, list[int]] = {}

    def add(self, question: str, tuple_text: str, *parents: int) -> int:
        number = len(self.questions) + 1
        self.questions[str(number)] = question
        self.tuples[str(number)] = tuple_text
        self.dependencies[str(number)] = list(parents) or [0]
        return number


def question_graph(scene: Scene, turn: int = 0) -> dict[str, dict[str, Any]]:
    """Return {"questions": {"1": ...}, "tuples": {"1": ...}, "dependencies": {"1": [0], ...}} for a scene.

    Every question follows the questions that it depends on. The first questions are about the background and the number
    of shapes. The next ones are about the existence, color or shape, size and place of each object, and the last ones
    are about the clear relations that the caption mentions. An object is named by its shape if the shape is unique ("Is
    the circle red?"), by its color if only the color is unique ("Is the red shape a circle?"), and otherwise by both.

    Args:
        scene: A scene with at least one object.
        turn: Alternates between shape and color where an object can be named by either.
    """
    graph, objects = _QuestionGraph(), scene.objects
    graph.add(f"Is the background {scene.background}?", f"global - background ({scene.background})")
    count = len(objects)
    count_question = "Is there one shape?" if count == 1 else f"Are there {_NUMBER_WORDS[count]} shapes?"
    graph.add(count_question, f"other - count (shapes, {_NUMBER_WORDS[count]})")
    if count > 1 and len({item.kind for item in objects}) == 1:
        _add_group(graph, scene)
    else:
        entities = [_add_object(graph, scene, i, turn) for i in range(count)]
        _add_relations(graph, objects, entities)
    return {"questions": graph.questions, "tuples": graph.tuples, "dependencies": graph.dependencies}


def _add_group(graph: _QuestionGraph, scene: Scene) -> None:
    """Add the questions about several objects of one kind."""
    first, count = scene.objects[0], len(scene.objects)
    noun = f"{first.shape}es" if first.shape.endswith("s") else f"{first.shape}s"
    number = _NUMBER_WORDS[count]
    entity = graph.add(f"Are there {noun}?", f"entity - whole ({noun})")
    graph.add(f"Are there {number} {noun}?", f"other - count ({noun}, {number})", entity)
    graph.add(f"Are the {noun} {first.color}?", f"attribute - color ({noun}, {first.color})", entity)
    graph.add(f"Are the {noun} {first.size}?", f"attribute - size ({noun}, {first.size})", entity)
    for item in scene.objects:
        place = place_of(scene, item)
        graph.add(f"Is there a {item.shape} {place}?", f"relation - spatial ({item.shape}, {place})", entity)


def _add_object(graph: _QuestionGraph, scene: Scene, index: int, turn: int) -> tuple[str, int]:
    """Add the questions about an object. Return its name and the number of the question about its existence."""
    item = scene.objects[index]
    others = [other for other in scene.objects if other is not item]
    unique_shape = all(other.shape != item.shape for other in others)
    unique_color = all(other.color != item.color for other in others)
    by_shape = unique_shape and (not unique_color or (index + turn) % 2 == 0)
    name = item.shape if by_shape else f"{item.color} shape" if unique_color else f"{item.color} {item.shape}"
    entity = graph.add(f"Is there {'an' if name[0] in 'aeiou' else 'a'} {name}?", f"entity - whole ({name})")
    if by_shape:
        graph.add(f"Is the {name} {item.color}?", f"attribute - color ({name}, {item.color})", entity)
    elif unique_color:
        graph.add(f"Is the {name} a {item.shape}?", f"attribute - shape ({name}, {item.shape})", entity)
    graph.add(f"Is the {name} {item.size}?", f"attribute - size ({name}, {item.size})", entity)
    place = place_of(scene, item)
    graph.add(f"Is the {name} {place}?", f"relation - spatial ({name}, {place})", entity)
    return name, entity


def _add_relations(graph: _QuestionGraph, objects: Sequence[Object], entities: Sequence[tuple[str, int]]) -> None:
    clear = [
        (i, j, relation)
        for i, j in combinations(range(len(objects)), 2)
        if (relation := clear_relation(objects[i], objects[j]))
    ]
    for i, j, relation in clear[:_MAX_RELATIONS]:
        (first, first_entity), (second, second_entity) = entities[i], entities[j]
        graph.add(
            f"Is the {first} {relation} the {second}?",
            f"relation - spatial ({first}, {second}, {relation})",
            first_entity,
            second_entity,
        )
