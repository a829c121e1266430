"""Tests that a scene with a defect differs in only one attribute and is still valid."""

import math
from itertools import combinations

import pytest

from datamodules.scenes.captions import place_of
from datamodules.scenes.scene import REACH, Object, Scene
from datamodules.scenes.split import generate_scenes
from tests.evaluation.scenes.defects import DEFECTS, Defect, add_defect

SAMPLES = [sample.scene for sample in generate_scenes("train", 150, seed=3)]


def scenes_with_defect(defect: Defect) -> list[tuple[Scene, Scene]]:
    pairs = [(scene, add_defect(scene, defect, seed)) for seed, scene in enumerate(SAMPLES)]
    return [(scene, other) for scene, other in pairs if other is not None]


@pytest.mark.parametrize("defect", DEFECTS)
def test_changed_scene_is_valid_and_reproducible(defect: Defect) -> None:
    pairs = scenes_with_defect(defect)
    assert len(pairs) > 130
    for scene, other in pairs:
        assert scene != other
        assert (other.width, other.height) == (scene.width, scene.height)
        for item in other.objects:
            reach = REACH * item.radius
            assert min(item.x, item.y, other.width - item.x, other.height - item.y) >= reach
        for a, b in combinations(other.objects, 2):
            assert math.dist((a.x, a.y), (b.x, b.y)) > REACH * (a.radius + b.radius)
    assert pairs == scenes_with_defect(defect)


@pytest.mark.parametrize(("defect", "fields"), [("color", "color"), ("shape", "shape"), ("size", "size radius")])
def test_only_one_attribute_of_one_object_changes(defect: Defect, fields: str) -> None:
    for scene, other in scenes_with_defect(defect):
        assert other.background == scene.background
        changed = [(a, b) for a, b in zip(scene.objects, other.objects, strict=True) if a != b]
        ((before, after),) = changed
        names = [name for name in vars(before) if getattr(before, name) != getattr(after, name)]
        assert names == fields.split()
        if defect == "size":
            ratio = after.radius / before.radius
            assert (1 < ratio < 1.44) if before.size == "small" else ratio == pytest.approx(1 / 1.433, abs=0.01)


def test_count_adds_or_removes_one_object() -> None:
    numbers = [len(other.objects) - len(scene.objects) for scene, other in scenes_with_defect("count")]
    assert set(numbers) == {-1, 1}
    assert 30 < numbers.count(1) < 120
    for scene, other in scenes_with_defect("count"):
        small, large = sorted([scene.objects, other.objects], key=len)
        assert set(small) < set(large)
        assert {item.kind for item in other.objects} <= {item.kind for item in scene.objects}


def test_position_moves_objects_to_other_places() -> None:
    for scene, other in scenes_with_defect("position"):
        assert sorted(item.kind for item in scene.objects) == sorted(item.kind for item in other.objects)
        before = sorted((item.kind, place_of(scene, item)) for item in scene.objects)
        assert before != sorted((item.kind, place_of(other, item)) for item in other.objects)


def test_impossible_defects_yield_none() -> None:
    four = Scene(128, 128, "white", tuple(Object("star", "red", "small", x, y, 12) for x in (32, 96) for y in (32, 96)))
    assert add_defect(four, "position", seed=0) is None
    empty = Scene(128, 128, "white", ())
    assert [defect for defect in DEFECTS if add_defect(empty, defect, seed=0)] == ["background"]
