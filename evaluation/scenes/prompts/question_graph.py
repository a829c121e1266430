"""Questions about a drawn scene that its long caption answers with yes, as a graph in the form of DPG-Bench."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from datamodules.scenes.captions import place_of
from datamodules.scenes.phrases import NUMBER_WORDS
from datamodules.scenes.scene import Object, Scene, clear_relation

_COUNTS = {1: "one", **NUMBER_WORDS}
_RELATIONS_TOLD = 2  # by a long caption, at most


class _Graph:
    """Questions by number, from 1, each with its tuple and its parents (0 for none)."""

    def __init__(self) -> None:
        self.questions: dict[str, str] = {}
        self.tuples: dict[str, str] = {}
        self.dependencies: dict[str, list[int]] = {}

    def add(self, question: str, kind: str, *parents: int) -> int:
        number = len(self.questions) + 1
        self.questions[str(number)] = question
        self.tuples[str(number)] = kind
        self.dependencies[str(number)] = list(parents) or [0]
        return number


def question_graph(scene: Scene, turn: int = 0) -> dict[str, dict[str, Any]]:
    """{"questions": {"1": ...}, "tuples": {"1": ...}, "dependencies": {"1": [0], ...}}, parents before children.

    Background and number of shapes, then of every object its existence, colour or shape, size and place, then the
    clear relations that the caption tells. An object goes by its shape where no other has it ("Is the circle
    red?"), by its colour where only that is its own ("Is the red shape a circle?"), else by both; where either
    would do, ``turn`` and the object's place in the scene decide. The scene must hold an object.
    """
    graph, objects = _Graph(), scene.objects
    graph.add(f"Is the background {scene.background}?", f"global - background ({scene.background})")
    count = len(objects)
    how_many = "Is there one shape?" if count == 1 else f"Are there {_COUNTS[count]} shapes?"
    graph.add(how_many, f"other - count (shapes, {_COUNTS[count]})")
    if count > 1 and len({item.kind for item in objects}) == 1:
        _add_group(graph, scene)
    else:
        names = [_add_object(graph, scene, i, turn) for i in range(count)]
        _add_relations(graph, objects, names)
    return {"questions": graph.questions, "tuples": graph.tuples, "dependencies": graph.dependencies}


def _add_group(graph: _Graph, scene: Scene) -> None:
    first, count = scene.objects[0], len(scene.objects)
    many = f"{first.shape}es" if first.shape.endswith("s") else f"{first.shape}s"
    entity = graph.add(f"Are there {many}?", f"entity - whole ({many})")
    graph.add(f"Are there {_COUNTS[count]} {many}?", f"other - count ({many}, {_COUNTS[count]})", entity)
    graph.add(f"Are the {many} {first.color}?", f"attribute - color ({many}, {first.color})", entity)
    graph.add(f"Are the {many} {first.size}?", f"attribute - size ({many}, {first.size})", entity)
    for item in scene.objects:
        place = place_of(scene, item)
        graph.add(f"Is there a {item.shape} {place}?", f"relation - spatial ({item.shape}, {place})", entity)


def _add_object(graph: _Graph, scene: Scene, index: int, turn: int) -> tuple[str, int]:
    """What the object is called, and the number of the question for its existence."""
    item = scene.objects[index]
    others = [other for other in scene.objects if other is not item]
    own_shape = all(other.shape != item.shape for other in others)
    own_color = all(other.color != item.color for other in others)
    by_shape = own_shape and (not own_color or (index + turn) % 2 == 0)
    name = item.shape if by_shape else f"{item.color} shape" if own_color else f"{item.color} {item.shape}"
    entity = graph.add(f"Is there {'an' if name[0] in 'aeiou' else 'a'} {name}?", f"entity - whole ({name})")
    if by_shape:
        graph.add(f"Is the {name} {item.color}?", f"attribute - color ({name}, {item.color})", entity)
    elif own_color:
        graph.add(f"Is the {name} a {item.shape}?", f"attribute - shape ({name}, {item.shape})", entity)
    graph.add(f"Is the {name} {item.size}?", f"attribute - size ({name}, {item.size})", entity)
    place = place_of(scene, item)
    graph.add(f"Is the {name} {place}?", f"relation - spatial ({name}, {place})", entity)
    return name, entity


def _add_relations(graph: _Graph, objects: Sequence[Object], names: Sequence[tuple[str, int]]) -> None:
    clear = [
        (i, j, relation)
        for i, j in combinations(range(len(objects)), 2)
        if (relation := clear_relation(objects[i], objects[j]))
    ]
    for i, j, relation in clear[:_RELATIONS_TOLD]:
        (first, first_entity), (second, second_entity) = names[i], names[j]
        graph.add(
            f"Is the {first} {relation} the {second}?",
            f"relation - spatial ({first}, {second}, {relation})",
            first_entity,
            second_entity,
        )
