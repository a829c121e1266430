"""Tests for T2I-CompBench's category scores and overall score on rendered scenes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.contract import Backend, ImageArray, ImageSet, ImageTextEncoder, Prompt, PromptSet, Result, Score
from evaluation.judges.rule_chunks import RuleChunks
from evaluation.metrics.compbench.blip_vqa import BlipVqa
from evaluation.metrics.compbench.categories import COLUMNS, Category
from evaluation.metrics.compbench.clip_similarity import ClipSimilarity
from evaluation.metrics.compbench.metric import CompBench, overall
from evaluation.metrics.compbench.numeracy import Numeracy
from evaluation.metrics.compbench.scorer import Scorer
from evaluation.metrics.compbench.spatial import Spatial
from evaluation.metrics.compbench.three_in_one import ThreeInOne
from evaluation.prompts.compbench import load_prompts
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.detector import SceneDetector
from pocketdit.errors import ConfigError, UserError
from tests.evaluation.conftest import Save


@pytest.fixture
def spatial(compbench_folder: Path, render_objects: Callable[..., ImageArray], save: Save) -> ImageSet:
    """Two images of "a circle on the left of a square", one of them wrong, and one image of "a star near a cross"."""
    right = render_objects(("circle", "red", 30, 64), ("square", "blue", 98, 64))
    wrong = render_objects(("circle", "red", 98, 64), ("square", "blue", 30, 64))
    stars = render_objects(("star", "red", 40, 64), ("cross", "blue", 90, 64))
    return save(load_prompts(compbench_folder, "spatial"), {"spatial-0000": [right, wrong], "spatial-0001": [stars]})


def test_category_is_the_mean_of_its_prompts(spatial: ImageSet) -> None:
    result = CompBench("compbench-spatial", "spatial", Spatial(SceneDetector())).score(spatial)
    score = result.scores["spatial"]
    assert list(result.scores) == ["spatial"]
    assert score.samples == 3
    assert list(score.by_prompt) == ["spatial-0000", "spatial-0001"]
    # Confident detections score nearly 1, and one of the two images is correct.
    assert score.by_prompt["spatial-0000"] == pytest.approx(0.5, abs=0.03)
    assert score.by_prompt["spatial-0001"] == pytest.approx(1, abs=0.06)
    assert score.value == sum(score.by_prompt.values()) / 2


def test_images_are_matched_by_id(spatial: ImageSet) -> None:
    metric = CompBench("p", "spatial", Spatial(SceneDetector()))
    reordered = replace(spatial, images=dict(reversed(list(spatial.images.items()))))
    assert metric.score(reordered) == metric.score(spatial)


def test_other_judges_are_named_in_the_result(spatial: ImageSet) -> None:
    result = CompBench("p", "spatial", Spatial(SceneDetector())).score(spatial)
    assert result.metric == "t2i-compbench (scene-rules)"
    detector = SceneDetector()
    detector.backend = Backend("unidet", "1", ("t2i-compbench",))
    assert CompBench("p", "spatial", Spatial(detector)).score(spatial).metric == "t2i-compbench"


def test_protocol_states_counts_and_judges(spatial: ImageSet) -> None:
    protocol = json.loads(json.dumps(CompBench("p", "spatial", Spatial(SceneDetector())).score(spatial).protocol))
    assert protocol["prompt_set"] == "t2i-compbench-spatial"
    assert (protocol["category"], protocol["prompts"], protocol["images_each"]) == (
        "spatial",
        2,
        {"least": 1, "most": 2},
    )
    assert protocol["images_each_published"] == 10
    assert protocol["backends"] == [{"name": "scene-rules", "version": "1", "published_for": []}]
    assert protocol["distance_threshold"] == 150


def test_all_categories_from_prompt_files_to_overall(
    tmp_path: Path, render_objects: Callable[..., ImageArray], clip: ImageTextEncoder, save: Save
) -> None:
    """Follow a user's steps: prompt files, images, one metric per category, and the overall score."""
    texts = {
        **{f"{n}_val.txt": "a red circle and a blue square" for n in ("color", "shape", "texture", "non_spatial")},
        "spatial_val.txt": "a circle on the left of a square",
        "numeracy_val.txt": "one circle and one square",
        "new_objects.txt": "circle - circles\nsquare - squares",
        "complex_val.txt": "The red circle is on the left of the blue square.",
        "complex_val_spatial.txt": "The red circle is on the left of the blue square.",
        "complex_val_action.txt": "-",
        "complex_val_spatialaction.txt": "-",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    attribute, spatial = BlipVqa(SceneAnswerer(), RuleChunks()), Spatial(SceneDetector())
    similarity = ClipSimilarity(clip)
    scorers: dict[Category, Scorer] = {
        "color": attribute, "shape": attribute, "texture": attribute, "spatial": spatial, "non_spatial": similarity,
        "complex": ThreeInOne(attribute, spatial, similarity), "numeracy": Numeracy(SceneDetector()),
    }  # fmt: skip
    image = render_objects(("circle", "red", 30, 64), ("square", "blue", 98, 64))
    results = {}
    for category, scorer in scorers.items():
        prompts = load_prompts(tmp_path, category)
        images = save(prompts, {f"{category}-0000": [image, image]})
        results[category] = CompBench(category, category, scorer).score(images)
    values = {category: result.scores[category].value for category, result in results.items()}
    for category in scorers:
        assert values[category] > 0.8 or category == "non_spatial"
    total = overall([result for category, result in results.items() if category != "numeracy"])
    assert total.scores["overall"].value == pytest.approx(sum(values[name] for name in COLUMNS) / 6)
    assert total.scores["overall"].samples == 12
    assert {name: score.value for name, score in total.scores.items() if name != "overall"} == {
        name: values[name] for name in COLUMNS
    }
    assert total.metric == "t2i-compbench (scene-rules, rule-chunks, tiny-clip)"
    assert sorted(json.loads(json.dumps(total.protocol))["columns"]) == sorted(COLUMNS)


def column(name: str, *values: float) -> Result:
    by_prompt = {f"{name}-{i:04d}": value for i, value in enumerate(values)}
    score = Score(sum(values) / len(values), 10 * len(values), by_prompt)
    return Result("t2i-compbench", {name: score}, {"category": name, "backends": []})


# Rows of Table 4 in the SnapGen++ paper, in the order of COLUMNS, and the overall scores printed there.
@pytest.mark.parametrize(
    ("columns", "printed"),
    [
        ((0.794, 0.375, 0.316, 0.600, 0.419, 0.712), 0.536),
        ((0.660, 0.377, 0.312, 0.529, 0.322, 0.652), 0.476),
        ((0.836, 0.399, 0.317, 0.605, 0.443, 0.743), 0.557),
    ],
)
def test_overall_matches_the_paper(columns: tuple[float, ...], printed: float) -> None:
    total = overall([column(name, value) for name, value in zip(COLUMNS, columns, strict=True)])
    assert total.scores["overall"].value == pytest.approx(printed, abs=0.001)  # the paper rounds all seven numbers
    assert total.metric == "t2i-compbench"


def test_overall_has_values_by_prompt_only_if_it_is_their_mean() -> None:
    even = overall([column(name, 0.1, 0.7) for name in COLUMNS]).scores["overall"]
    assert len(even.by_prompt) == 12
    assert sum(even.by_prompt.values()) / 12 == pytest.approx(even.value)
    uneven = overall([column(name, *([0.1] * (1 + (name == "color")))) for name in COLUMNS]).scores["overall"]
    assert not uneven.by_prompt


@pytest.mark.parametrize("names", [COLUMNS[1:], (*COLUMNS, "color"), (*COLUMNS, "numeracy"), ()])
def test_overall_needs_each_column_once(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"needs one result per column \(color, complex"):
        overall([column(name, 1.0) for name in names])


def test_wrong_use_is_reported(spatial: ImageSet) -> None:
    scorer = Spatial(SceneDetector())
    metric = CompBench("p", "spatial", scorer)
    with pytest.raises(ConfigError, match="category numeracy: Spatial does not score it; use Numeracy"):
        CompBench("p", "numeracy", scorer)
    with pytest.raises(ConfigError, match=r"category must be one of .*, not '3d'"):
        CompBench("p", "3d", scorer)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="prompt spatial-0001 has no images"):
        metric.score(replace(spatial, images={"spatial-0000": spatial.images["spatial-0000"]}))
    with pytest.raises(UserError, match="prompt a-0 is not a spatial prompt"):
        metric.score(replace(spatial, prompts=PromptSet("mine", (Prompt("a-0", "a cat"),))))
    with pytest.raises(UserError, match="prompt set mine has no prompts"):
        metric.score(replace(spatial, prompts=PromptSet("mine", ())))
    spatial.images["spatial-0000"][0].write_bytes(b"not an image")
    with pytest.raises(UserError, match="cannot be decoded"):
        metric.score(spatial)
