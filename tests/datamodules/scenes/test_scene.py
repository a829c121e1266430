"""Tests that 600 random scenes have the required properties."""

import itertools
import math
from collections import Counter

import pytest

from datamodules.scenes.render import OUTLINES
from datamodules.scenes.scene import REACH, SIZES, Object, clear_relation, default_rows, random_scene
from pocketdit.errors import UserError

SCENES = [random_scene(seed) for seed in range(600)]


def test_scenes_depend_on_the_seed_only() -> None:
    assert SCENES[:50] == [random_scene(seed) for seed in range(50)]
    assert len(set(SCENES)) == len(SCENES)


def test_objects_are_inside_and_do_not_touch() -> None:
    for scene in SCENES:
        for i, item in enumerate(scene.objects):
            reach = REACH * item.radius
            assert reach <= item.x <= scene.width - reach
            assert reach <= item.y <= scene.height - reach
            for other in scene.objects[:i]:
                gap = math.hypot(item.x - other.x, item.y - other.y) - reach - REACH * other.radius
                assert gap > 3.9


def test_outlines_are_within_reach_and_centered_at_their_centroid() -> None:
    for corners in OUTLINES.values():
        assert max(math.hypot(*corner) for corner in corners) <= REACH + 1e-9
        pairs = list(zip(corners, corners[1:] + corners[:1], strict=True))
        twice_area = sum(a * d - b * c for (a, b), (c, d) in pairs)
        for axis in (0, 1):
            moment = sum((p[axis] + q[axis]) * (p[0] * q[1] - p[1] * q[0]) for p, q in pairs)
            assert moment / (3 * twice_area) == pytest.approx(0, abs=1e-9)


def test_small_and_large_objects_differ_clearly() -> None:
    assert min(item.radius for scene in SCENES for item in scene.objects) > 10
    for scene in SCENES:
        radii = {size: [item.radius for item in scene.objects if item.size == size] for size in SIZES}
        if all(radii.values()) and len(set(default_rows(len(scene.objects), scene.width, scene.height))) == 1:
            assert max(radii["small"]) < 0.8 * min(radii["large"])


def test_defaults_have_the_documented_probabilities() -> None:
    alone = [scene for scene in SCENES if len(scene.objects) == 1]
    places = Counter((int(3 * s.objects[0].y / s.height), int(3 * s.objects[0].x / s.width)) for s in alone)
    assert len(places) == 9
    assert places[1, 1] / len(alone) == pytest.approx(0.6, abs=0.08)
    assert Counter(s.background for s in SCENES)["white"] / len(SCENES) == pytest.approx(0.7, abs=0.06)
    sizes = Counter(item.size for scene in SCENES for item in scene.objects)
    assert sizes["large"] / sizes.total() == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize(
    ("count", "size", "rows"),
    [(2, (128, 128), (2,)), (2, (96, 160), (1, 1)), (3, (128, 128), (1, 2)), (3, (160, 96), (3,)),
     (3, (96, 160), (1, 1, 1)), (4, (160, 96), (2, 2))],
)  # fmt: skip
def test_default_rows(count: int, size: tuple[int, int], rows: tuple[int, ...]) -> None:
    assert default_rows(count, *size) == rows
    for scene in SCENES:
        if len(scene.objects) == count and (scene.width, scene.height) == size:
            heights = sorted(item.y for item in scene.objects)
            steps = [b - a > 0.25 * scene.height for a, b in itertools.pairwise(heights)]
            turned = count == 2 and len({item.kind for item in scene.objects}) == 2
            assert turned or sum(steps) + 1 == len(rows)


def test_objects_are_listed_in_reading_order() -> None:
    for scene in SCENES:
        for item, following in itertools.pairwise(scene.objects):
            lower = following.y - item.y > 0.25 * scene.height
            assert lower or (following.x > item.x and abs(following.y - item.y) < 0.1 * scene.height)


def test_numbers_and_kinds_of_objects_have_the_documented_probabilities() -> None:
    kinds = Counter((len(s.objects), len({item.kind for item in s.objects})) for s in SCENES)
    share = {key: number / len(SCENES) for key, number in kinds.items()}
    assert share[1, 1] == pytest.approx(0.40, abs=0.06)
    assert share[2, 2] == pytest.approx(0.35, abs=0.06)
    assert share[2, 1] + share[3, 1] + share[4, 1] == pytest.approx(0.15, abs=0.05)
    assert share[3, 3] + share[4, 4] == pytest.approx(0.10, abs=0.04)
    assert {(s.width, s.height) for s in SCENES} == {(128, 128), (160, 96), (96, 160)}


def test_sides_must_be_multiples_of_32() -> None:
    for seed in range(40):
        scene = random_scene(seed, 256, 96)
        assert (scene.width, scene.height) == (256, 96)
    for size in ((128, None), (100, 128), (64, 64)):
        with pytest.raises(UserError, match="multiples of 32"):
            random_scene(0, *size)


@pytest.mark.parametrize(
    ("dx", "dy", "relation"),
    [
        (-40, 0, "left of"),
        (40, 10, "right of"),
        (0, -40, "above"),
        (-5, 40, "below"),
        (40, 40, None),
        (20, 0, None),
    ],
)
def test_relation_is_returned_only_if_it_is_clear(dx: float, dy: float, relation: str | None) -> None:
    first, second = (Object("circle", "red", "small", 60 + x, 60 + y, 12) for x, y in ((dx, dy), (0, 0)))
    assert clear_relation(first, second) == relation
