"""Tests for the prompt sets of scenes, scored by the benchmarks' metrics with rule-based judges."""

from collections import Counter
from pathlib import Path

import pytest

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Scene
from datamodules.scenes.split import generate_scenes, split_of
from evaluation.contract import ImageSet, Prompt, PromptSet
from evaluation.metrics.compbench.blip_vqa import BlipVqa
from evaluation.metrics.compbench.categories import Category
from evaluation.metrics.compbench.metric import CompBench
from evaluation.metrics.compbench.numeracy import Numeracy
from evaluation.metrics.compbench.scorer import Scorer
from evaluation.metrics.compbench.spatial import Spatial
from evaluation.metrics.dpg.metric import DPGBench
from evaluation.metrics.geneval.metric import GenEval
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.chunks import SceneChunks
from evaluation.scenes.judges.colors import SceneColorReader
from evaluation.scenes.judges.detector import SceneDetector
from evaluation.scenes.judges.questions import parse_question
from evaluation.scenes.prompts.benchmarks import CATEGORIES, TAGS, scene_compbench, scene_dpg, scene_geneval
from pocketdit.errors import UserError
from tests.evaluation.scenes.defects import Defect, add_defect

# Mapping from short captions to validation scenes, from which the images for the prompts are rendered.
SCENES = {sample.captions[0]: sample.scene for sample in generate_scenes("validation", 1200, seed=6)}


def render_images(prompts: list[Prompt], scenes: list[Scene], folder: Path) -> ImageSet:
    folder.mkdir(exist_ok=True)
    for prompt, scene in zip(prompts, scenes, strict=True):
        render_scene(scene).save(folder / f"{prompt.id}.png")
    files = {prompt.id: (folder / f"{prompt.id}.png",) for prompt in prompts}
    return ImageSet(PromptSet("scenes", tuple(prompts)), files, {})


def prompts_with_scenes(prompts: PromptSet) -> tuple[list[Prompt], list[Scene]]:
    known = [prompt for prompt in prompts.prompts if prompt.text in SCENES]
    return known, [SCENES[prompt.text] for prompt in known]


@pytest.mark.parametrize("name", ["geneval", "dpg", *CATEGORIES])
def test_prompts_are_held_out_and_reproducible(name: str) -> None:
    def load(seed: int) -> PromptSet:
        if name == "geneval":
            return scene_geneval(60, seed)
        return scene_dpg(60, seed) if name == "dpg" else scene_compbench(name, 40, seed)

    prompts = load(0)
    assert prompts == load(0) != load(1)
    assert len({prompt.id for prompt in prompts.prompts}) == len(prompts.prompts) >= 40
    assert {(p.metadata["width"], p.metadata["height"]) for p in prompts.prompts} == {(128, 128), (160, 96), (96, 160)}
    if name != "dpg":
        assert all(split_of(prompt.text) == "validation" for prompt in prompts.prompts)
        assert len({prompt.text for prompt in prompts.prompts}) == len(prompts.prompts)


def test_tags_have_the_requirements_of_geneval() -> None:
    prompts = scene_geneval(120, seed=0).prompts
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == dict.fromkeys(TAGS, 20)
    for prompt in prompts:
        tag, include = prompt.metadata["tag"], prompt.metadata["include"]
        full = parse_expectation(prompt.text)
        colored = tag in ("colors", "color_attr")
        assert all(("color" in clause) == colored for clause in include)
        assert [clause["class"] for clause in include] == [clause["class"] for clause in full["include"]]
        assert len({clause["class"] for clause in include}) == len(include)
        assert len(include) == (2 if tag in ("two_object", "position", "color_attr") else 1)
        assert any("position" in clause for clause in include) == (tag == "position")
        if tag == "counting":
            (included,), (excluded,) = include, prompt.metadata["exclude"]
            assert included["count"] >= 2
            assert excluded == {"class": included["class"], "count": included["count"] + 1}
        else:
            assert "exclude" not in prompt.metadata
            assert all(clause["count"] == 1 for clause in include)


def test_geneval_accepts_rendered_prompts_and_rejects_defects(tmp_path: Path) -> None:
    prompts, scenes = prompts_with_scenes(scene_geneval(360, seed=0))
    prompts, scenes = prompts[:120], scenes[:120]
    metric = GenEval("scenes", SceneDetector(), SceneColorReader())
    right = metric.score(render_images(prompts, scenes, tmp_path / "right"))
    assert right.metric.startswith("geneval (")
    assert "scene-rules" in right.metric
    assert all(right.scores[tag].value >= 0.98 for tag in TAGS)
    missing = [Scene(scene.width, scene.height, scene.background, scene.objects[1:]) for scene in scenes]
    assert metric.score(render_images(prompts, missing, tmp_path / "missing")).scores["overall"].value <= 0.02
    recolored = [changed for i, scene in enumerate(scenes) if (changed := add_defect(scene, "color", i))]
    wrong = metric.score(render_images(prompts, recolored, tmp_path / "wrong")).scores
    assert wrong["colors"].value == 0 == wrong["color_attr"].value
    assert wrong["single_object"].value >= 0.98 <= wrong["position"].value


def test_dpg_question_graphs_can_be_scored(tmp_path: Path) -> None:
    prompts = list(scene_dpg(60, seed=3).prompts)
    scenes = [sample.scene for sample in generate_scenes("validation", 60, seed=3)]
    kinds: set[str] = set()
    for prompt in prompts:
        questions, tuples = prompt.metadata["questions"], prompt.metadata["tuples"]
        parents = prompt.metadata["dependencies"]
        assert list(questions) == list(tuples) == list(parents) == [str(i + 1) for i in range(len(questions))]
        assert all(parent < int(number) for number, numbers in parents.items() for parent in numbers)
        assert len(set(questions.values())) == len(questions)
        kinds |= {text.split("(")[0].strip() for text in tuples.values()}
        for question in questions.values():
            parse_question(question)
    assert kinds == {
        "entity - whole",
        "attribute - color",
        "attribute - shape",
        "attribute - size",
        "relation - spatial",
        "global - background",
        "other - count",
    }
    metric = DPGBench("scenes", SceneAnswerer(), "corrected")
    assert metric.score(render_images(prompts, scenes, tmp_path / "right")).scores["overall"].value >= 99
    empty = [Scene(scene.width, scene.height, scene.background, ()) for scene in scenes]
    empty_scores = metric.score(render_images(prompts, empty, tmp_path / "empty")).scores
    assert empty_scores["L1/entity"].value == 0
    assert empty_scores["L1/global"].value == 100


@pytest.mark.parametrize(
    ("category", "defect"), [("color", "color"), ("shape", "shape"), ("spatial", "position"), ("numeracy", "count")]
)
def test_compbench_distinguishes_rendered_prompts_from_defects(
    category: Category, defect: Defect, tmp_path: Path
) -> None:
    prompts, scenes = prompts_with_scenes(scene_compbench(category, 80, seed=0))
    prompts, scenes = prompts[:20], scenes[:20]
    assert len(prompts) >= 8
    scorers: dict[str, Scorer] = {"spatial": Spatial(SceneDetector()), "numeracy": Numeracy(SceneDetector())}
    metric = CompBench("scenes", category, scorers.get(category, BlipVqa(SceneAnswerer(), SceneChunks())))
    right = metric.score(render_images(prompts, scenes, tmp_path / "right")).scores[category].value
    changed = [add_defect(scene, defect, seed=i) or scene for i, scene in enumerate(scenes)]
    wrong = metric.score(render_images(prompts, changed, tmp_path / "wrong")).scores[category].value
    assert right >= 0.9
    assert wrong <= 0.55


def test_compbench_metadata_matches_the_prompts() -> None:
    prompts = scene_compbench("complex", 40, seed=1).prompts
    assert all(p.metadata["kind"] == "spatial" and len(SceneChunks().chunks(p.text)) >= 2 for p in prompts)
    for prompt in prompts:
        relation = prompt.metadata["relation"]
        assert relation["first"] in prompt.text
        assert relation["second"] in prompt.text
        assert prompt.text.index(relation["first"]) < prompt.text.index(relation["second"])
        expected = {"left": "left", "right": "right", "top": "above", "bottom": "below"}
        assert expected[relation["relation"].split()[2]] in prompt.text
    for prompt in scene_compbench("shape", 40, seed=1).prompts:
        first, second = parse_expectation(prompt.text)["include"]
        assert first["color"] == second["color"]
        assert first["class"] != second["class"]
    with pytest.raises(UserError, match="texture"):
        scene_compbench("texture", 1, seed=0)
