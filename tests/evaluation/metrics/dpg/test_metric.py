"""DPG-Bench for single-color images, with a judge that reads pixels, compared with scores computed by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet
from evaluation.metrics.dpg.metric import DPGBench
from pocketdit.errors import UserError

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "black": (0, 0, 0)}


class PixelAnswerer:
    """Answers questions such as "Is it red?" about single-color images, and "maybe" to all others."""

    def __init__(self, published_for: tuple[str, ...] = ("dpg",)) -> None:
        self.backend = Backend("pixels", "1", published_for)

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        return [self._answer(tuple(image[0, 0].tolist()), question) for question in questions]

    def _answer(self, color: tuple[int, ...], question: str) -> str:
        name = question.removeprefix("Is it ").removesuffix("?")
        return "maybe" if name not in COLORS else "yes" if COLORS[name] == color else "no"

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        raise NotImplementedError


def prompt(name: str, questions: dict[str, tuple[str, str, list[int]]], **metadata: Any) -> Prompt:
    parts = ("questions", "tuples", "dependencies")
    return Prompt(
        name,
        name,
        {part: {number: row[i] for number, row in questions.items()} for i, part in enumerate(parts)} | metadata,
    )


RED = ("Is it red?", "attribute - color (red)", [0])
GREEN = ("Is it green?", "attribute - color (green)", [0])
TEXT = ("Is there text?", "other - text (x)", [0])


def save_images(folder: Path, pairs: list[tuple[Prompt, tuple[str, ...]]]) -> ImageSet:
    """Save one image per color for each prompt."""
    files: dict[str, tuple[Path, ...]] = {}
    for item, colors in pairs:
        files[item.id] = tuple(folder / f"{item.id}-{i}.png" for i in range(len(colors)))
        for path, color in zip(files[item.id], colors, strict=True):
            Image.new("RGB", (8, 6), COLORS[color]).save(path)
    return ImageSet(PromptSet("p", tuple(item for item, _ in pairs), 2), files, {})


@pytest.fixture
def two_prompts(tmp_path: Path) -> ImageSet:
    # Prompt a scores 1/2 for the red image and 0 for the green one. For prompt b, the answer to the text question is
    # never yes, so the question that depends on it always scores 0. The answer to the green question is yes once.
    a = prompt("a", {"1": RED, "2": TEXT})
    b = prompt("b", {"1": TEXT, "2": (RED[0], "entity - whole (red)", [1]), "3": GREEN})
    return save_images(tmp_path, [(a, ("red", "green")), (b, ("green", "red"))])


def test_official_scores_by_hand(two_prompts: ImageSet) -> None:
    result = DPGBench("p", PixelAnswerer(), "official").score(two_prompts)
    assert result.metric == "dpg"
    assert {name: score.value for name, score in result.scores.items()} == pytest.approx(
        {
            "overall": 100 * (1 / 4 + 1 / 6) / 2,
            # Only the last image of each prompt is used. Red scores 0 for a. Green scores 0 for b, and red scores 1
            # because its parent question is ignored.
            "L1/attribute": 0,
            "L1/entity": 100,
            "L1/other": 0,
            "L2/attribute - color": 0,
            "L2/entity - whole": 100,
            "L2/other - text": 0,
        }
    )
    assert result.scores["overall"].by_prompt == pytest.approx({"a": 25, "b": 100 / 6})
    assert (result.scores["overall"].samples, result.scores["L2/attribute - color"].samples) == (4, 2)
    assert json.loads(json.dumps(result.protocol))["mode"] == "official"


def test_corrected_scores_by_hand(two_prompts: ImageSet) -> None:
    result = DPGBench("p", PixelAnswerer(), "corrected").score(two_prompts)
    assert result.metric == "dpg (corrected)"
    assert {name: score.value for name, score in result.scores.items()} == pytest.approx(
        {
            "overall": 100 * (1 / 4 + 1 / 6) / 2,
            "L1/attribute": 50,
            "L1/entity": 0,
            "L1/other": 0,
            "L2/attribute - color": 50,
            "L2/entity - whole": 0,
            "L2/other - text": 0,
        }
    )
    assert result.scores["L2/attribute - color"].by_prompt == {"a": 50, "b": 50}
    assert result.scores["L2/attribute - color"].samples == 4


def test_images_are_matched_by_id(two_prompts: ImageSet) -> None:
    reordered = ImageSet(
        PromptSet("p", two_prompts.prompts.prompts[::-1], 2),
        dict(reversed(list(two_prompts.images.items()))),
        two_prompts.provenance,
    )
    metric = DPGBench("p", PixelAnswerer())
    first, second = metric.score(two_prompts).scores, metric.score(reordered).scores
    assert {name: score.value for name, score in first.items()} == {name: score.value for name, score in second.items()}


def test_first_question_of_the_file_is_dropped_in_official_mode_only(tmp_path: Path) -> None:
    opens = prompt("a", {"1": TEXT, "2": RED, "3": RED}, opens_file=True)
    images = save_images(tmp_path, [(opens, ("red", "red"))])
    assert DPGBench("p", PixelAnswerer(), "official").score(images).scores["overall"].value == 100
    assert DPGBench("p", PixelAnswerer(), "corrected").score(images).scores["overall"].value == pytest.approx(200 / 3)


def test_prompt_that_the_published_script_cannot_score_is_left_out(tmp_path: Path) -> None:
    opens = prompt("a", {"1": RED, "2": (GREEN[0], GREEN[1], [1])}, opens_file=True)
    images = save_images(tmp_path, [(opens, ("green",)), (prompt("b", {"1": RED}), ("red",))])
    official = DPGBench("p", PixelAnswerer(), "official").score(images)
    assert official.scores["overall"].by_prompt == {"b": 100}
    assert official.protocol["left_out"] == ["a"]
    corrected = DPGBench("p", PixelAnswerer(), "corrected").score(images)
    assert corrected.scores["overall"].by_prompt == {"a": 0, "b": 100}
    assert corrected.protocol["left_out"] == []


def test_other_judges_are_named_in_the_result(two_prompts: ImageSet) -> None:
    assert DPGBench("p", PixelAnswerer(())).score(two_prompts).metric == "dpg (pixels)"


def test_incomplete_image_sets_are_errors(two_prompts: ImageSet) -> None:
    metric = DPGBench("p", PixelAnswerer())
    with pytest.raises(UserError, match=r"prompt b .* has no images"):
        metric.score(ImageSet(two_prompts.prompts, {"a": two_prompts.images["a"]}, {}))
    with pytest.raises(UserError, match="prompt c has no questions"):
        metric.score(ImageSet(PromptSet("p", (Prompt("c", "c"),)), {"c": two_prompts.images["a"]}, {}))
    with pytest.raises(UserError, match="no prompts that DPG-Bench can score"):
        metric.score(ImageSet(PromptSet("p", ()), {}, {}))
    with pytest.raises(UserError, match="mode must be official or corrected, not exact"):
        DPGBench("p", PixelAnswerer(), "exact")  # type: ignore[arg-type]
