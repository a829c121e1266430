"""The judges against the truth: scenes as drawn, and with one attribute broken."""

from collections import Counter

import numpy as np
import pytest

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Object, Scene
from datamodules.scenes.split import generate_scenes
from evaluation.contract import ImageArray
from evaluation.scenes.defects import DEFECTS, add_defect
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.colors import SceneColorReader
from evaluation.scenes.judges.detector import SceneDetector
from evaluation.scenes.prompts.question_graph import question_graph

DETECTOR, READER, ANSWERER = SceneDetector(), SceneColorReader(), SceneAnswerer()
NOTICED_BY = {"color": "reader", "shape": "detector", "count": "detector"}


def picture(scene: Scene) -> ImageArray:
    return np.asarray(render_scene(scene))


def near(box: tuple[float, ...], item: Object) -> bool:
    return (
        abs((box[0] + box[2]) / 2 - item.x) < item.radius / 3 and abs((box[1] + box[3]) / 2 - item.y) < item.radius / 3
    )


def agreeing(pixels: ImageArray, scene: Scene) -> set[str]:
    """Which judges say what the scene's annotations say."""
    found = [item for item in DETECTOR.detect(pixels) if item.score > 0.9]
    names = READER.colors(pixels, found)
    kinds = list(zip([item.label for item in found], names, strict=True))
    agree = set()
    if Counter(label for label, _ in kinds) == Counter(item.shape for item in scene.objects):
        agree.add("detector")
    if Counter(name for _, name in kinds) == Counter(item.color for item in scene.objects):
        agree.add("reader")
    if all(
        any(kind == item.kind and near(one.box, item) for one, kind in zip(found, kinds, strict=True))
        for item in scene.objects
    ):
        agree.add("together")
    return agree


def check(count: int) -> None:
    agreed, asked, missed = Counter[str](), Counter[str](), Counter[str]()
    for number, sample in enumerate(generate_scenes("train", count, seed=21)):
        scene, pixels = sample.scene, picture(sample.scene)
        questions = list(question_graph(scene, turn=number)["questions"].values())
        agreed.update(agreeing(pixels, scene))
        agreed["answerer"] += ANSWERER.answers(pixels, questions) == ["yes"] * len(questions)
        for broken in DEFECTS:
            if (other := add_defect(scene, broken, seed=number)) is None:
                continue
            asked[broken] += 1
            pixels = picture(other)
            missed[f"{broken} by answerer"] += "no" not in ANSWERER.answers(pixels, questions)
            if broken in NOTICED_BY:
                missed[f"{broken} by judges"] += NOTICED_BY[broken] in agreeing(pixels, scene)
    for judge in ("detector", "reader", "together", "answerer"):
        assert agreed[judge] >= 0.98 * count, (judge, agreed)
    assert min(asked.values()) >= 0.9 * count
    for case, times in missed.items():
        assert times <= 0.05 * asked[case.split()[0]], (case, missed)


def test_judges_agree_with_the_truth_and_notice_what_is_broken() -> None:
    check(100)


@pytest.mark.slow
def test_judges_on_a_thousand_scenes() -> None:
    check(1000)
