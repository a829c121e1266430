"""Tests that the judges agree with the ground truth of scenes and notice every kind of defect."""

from collections import Counter

import numpy as np
import pytest

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Object, Scene
from datamodules.scenes.split import generate_scenes
from evaluation.contract import ImageArray
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.colors import SceneColorReader
from evaluation.scenes.judges.detector import SceneDetector
from evaluation.scenes.prompts.question_graph import question_graph
from tests.evaluation.scenes.defects import DEFECTS, add_defect

DETECTOR, READER, ANSWERER = SceneDetector(), SceneColorReader(), SceneAnswerer()
NOTICED_BY = {"color": "reader", "shape": "detector", "count": "detector"}


def render(scene: Scene) -> ImageArray:
    return np.asarray(render_scene(scene))


def is_near(box: tuple[float, ...], item: Object) -> bool:
    return (
        abs((box[0] + box[2]) / 2 - item.x) < item.radius / 3 and abs((box[1] + box[3]) / 2 - item.y) < item.radius / 3
    )


def agreeing_judges(pixels: ImageArray, scene: Scene) -> set[str]:
    """Return the names of the judges that agree with the scene's annotations."""
    detections = [item for item in DETECTOR.detect(pixels) if item.score > 0.9]
    names = READER.colors(pixels, detections)
    kinds = list(zip([item.label for item in detections], names, strict=True))
    agree = set()
    if Counter(label for label, _ in kinds) == Counter(item.shape for item in scene.objects):
        agree.add("detector")
    if Counter(name for _, name in kinds) == Counter(item.color for item in scene.objects):
        agree.add("reader")
    if all(
        any(
            kind == item.kind and is_near(detection.box, item)
            for detection, kind in zip(detections, kinds, strict=True)
        )
        for item in scene.objects
    ):
        agree.add("together")
    return agree


def check_judges(count: int) -> None:
    agreed, total, missed = Counter[str](), Counter[str](), Counter[str]()
    for number, sample in enumerate(generate_scenes("train", count, seed=21)):
        scene, pixels = sample.scene, render(sample.scene)
        questions = list(question_graph(scene, turn=number)["questions"].values())
        agreed.update(agreeing_judges(pixels, scene))
        agreed["answerer"] += ANSWERER.answers(pixels, questions) == ["yes"] * len(questions)
        for defect in DEFECTS:
            if (other := add_defect(scene, defect, seed=number)) is None:
                continue
            total[defect] += 1
            pixels = render(other)
            missed[f"{defect} by answerer"] += "no" not in ANSWERER.answers(pixels, questions)
            if defect in NOTICED_BY:
                missed[f"{defect} by judges"] += NOTICED_BY[defect] in agreeing_judges(pixels, scene)
    for judge in ("detector", "reader", "together", "answerer"):
        assert agreed[judge] >= 0.98 * count, (judge, agreed)
    assert min(total.values()) >= 0.9 * count
    for case, times in missed.items():
        assert times <= 0.05 * total[case.split()[0]], (case, missed)


def test_judges_agree_with_the_ground_truth_and_notice_defects() -> None:
    check_judges(60)


@pytest.mark.slow
def test_judges_on_a_thousand_scenes() -> None:
    check_judges(1000)
