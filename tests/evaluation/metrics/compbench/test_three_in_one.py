"""Tests the score of complex prompts against its three parts."""

from collections.abc import Callable

import pytest

from evaluation.contract import ImageArray, ImageTextEncoder, Prompt
from evaluation.judges.rule_chunks import RuleChunks
from evaluation.metrics.compbench.blip_vqa import BlipVqa
from evaluation.metrics.compbench.clip_similarity import ClipSimilarity
from evaluation.metrics.compbench.spatial import Spatial, parse_relation
from evaluation.metrics.compbench.three_in_one import ThreeInOne
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.detector import SceneDetector
from pocketdit.errors import ConfigError, UserError

TEXT = "The red circle is on the left of the blue square."


def test_kind_of_prompt_determines_the_averaged_scores(
    clip: ImageTextEncoder, render_objects: Callable[..., ImageArray]
) -> None:
    attribute, spatial, similarity = (
        BlipVqa(SceneAnswerer(), RuleChunks()),
        Spatial(SceneDetector()),
        ClipSimilarity(clip),
    )
    scorer = ThreeInOne(attribute, spatial, similarity)
    right = render_objects(("circle", "red", 30, 64), ("square", "blue", 98, 64))
    # In this image, the relation is wrong, but the attributes are correct.
    wrong = render_objects(("circle", "red", 98, 64), ("square", "blue", 30, 64))
    images = [right, wrong]

    def prompt(kind: str) -> Prompt:
        return Prompt("complex-0000", TEXT, {"category": "complex", "kind": kind, "relation": parse_relation(TEXT)})

    parts = (part.score(images, prompt("action")) for part in (attribute, spatial, similarity))
    for i, (a, s, c) in enumerate(zip(*parts, strict=True)):
        assert (a > 0.8, s > 0.9, s == 0) == (True, i == 0, i == 1)
        assert scorer.score(images, prompt("spatial"))[i] == pytest.approx((s + a) / 2)
        assert scorer.score(images, prompt("action"))[i] == pytest.approx((c + a) / 2)
        assert scorer.score(images, prompt("spatialaction"))[i] == pytest.approx((a + s + c) / 3)
    assert [backend.name for backend in scorer.backends] == ["scene-rules", "rule-chunks", "tiny-clip"]
    assert scorer.protocol["spatial"]["scorer"] == "spatial"


def test_wrong_use_is_reported(clip: ImageTextEncoder) -> None:
    attribute, spatial = BlipVqa(SceneAnswerer(), RuleChunks()), Spatial(SceneDetector())
    with pytest.raises(ConfigError, match="similarity: Spatial does not score the category non_spatial"):
        ThreeInOne(attribute, spatial, spatial)
    with pytest.raises(UserError, match="prompt x: kind must be one of spatial, action, spatialaction, not 'None'"):
        ThreeInOne(attribute, spatial, ClipSimilarity(clip)).score([], Prompt("x", TEXT))
