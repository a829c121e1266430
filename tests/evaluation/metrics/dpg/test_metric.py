"""Tests DPG-Bench on single-color images, with a judge that reads pixels, against scores computed by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet
from evaluation.metrics.dpg.metric import DPGBench
from evaluation.metrics.dpg.scoring import Mode
from pocketdit.errors import UserError

MODES: tuple[Mode, ...] = ("official", "corrected")
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "black": (0, 0, 0)}


class PixelAnswerer:
    """Answers questions such as "Is it red?" about single-color images. The answer to other questions is "maybe"."""

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
    """Save one image per color for each prompt. The number of colors must be the same for all prompts."""
    files: dict[str, tuple[Path, ...]] = {}
    for item, colors in pairs:
        files[item.id] = tuple(folder / f"{item.id}-{i}.png" for i in range(len(colors)))
        for path, color in zip(files[item.id], colors, strict=True):
            Image.new("RGB", (8, 6), COLORS[color]).save(path)
    return ImageSet(PromptSet("p", tuple(item for item, _ in pairs), len(pairs[0][1])), files, {})


@pytest.fixture
def two_prompts(tmp_path: Path) -> ImageSet:
    # Prompt a scores 1/2 for each red image and 0 for each green image. For prompt b, the answer to the text question
    # is never "yes", so the question that depends on it always scores 0. The answer to the question about green is
    # "yes" for two images.
    a = prompt("a", {"1": RED, "2": TEXT})
    b = prompt("b", {"1": TEXT, "2": (RED[0], "entity - whole (red)", [1]), "3": GREEN})
    return save_images(tmp_path, [(a, ("red", "red", "green", "green")), (b, ("green", "red", "green", "red"))])


def test_official_scores_equal_hand_computed_values(two_prompts: ImageSet) -> None:
    result = DPGBench("p", PixelAnswerer(), "official").score(two_prompts)
    assert result.metric == "dpg"
    assert {name: score.value for name, score in result.scores.items()} == pytest.approx(
        {
            "overall": 100 * (1 / 4 + 1 / 6) / 2,
            # Only the last image of each prompt is used. For prompt a, the question about red scores 0. For prompt b,
            # the question about green scores 0, and the one about red scores 1 because its parent question is ignored.
            "L1/attribute": 0,
            "L1/entity": 100,
            "L1/other": 0,
            "L2/attribute - color": 0,
            "L2/entity - whole": 100,
            "L2/other - text": 0,
        }
    )
    assert result.scores["overall"].by_prompt == pytest.approx({"a": 25, "b": 100 / 6})
    assert (result.scores["overall"].samples, result.scores["L2/attribute - color"].samples) == (8, 2)
    assert json.loads(json.dumps(result.protocol))["mode"] == "official"


def test_corrected_scores_equal_hand_computed_values(two_prompts: ImageSet) -> None:
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
    assert result.scores["L2/attribute - color"].samples == 8


def test_images_are_matched_by_id(two_prompts: ImageSet) -> None:
    reordered = ImageSet(
        PromptSet("p", two_prompts.prompts.prompts[::-1], 4),
        dict(reversed(list(two_prompts.images.items()))),
        two_prompts.provenance,
    )
    metric = DPGBench("p", PixelAnswerer())
    first, second = metric.score(two_prompts).scores, metric.score(reordered).scores
    assert {name: score.value for name, score in first.items()} == {name: score.value for name, score in second.items()}


def test_first_question_of_the_file_is_dropped_in_official_mode_only(tmp_path: Path) -> None:
    opens = prompt("a", {"1": TEXT, "2": RED, "3": RED}, opens_file=True)
    images = save_images(tmp_path, [(opens, ("red",) * 4)])
    assert DPGBench("p", PixelAnswerer(), "official").score(images).scores["overall"].value == 100
    assert DPGBench("p", PixelAnswerer(), "corrected").score(images).scores["overall"].value == pytest.approx(200 / 3)


def test_prompt_that_the_published_script_cannot_score_is_left_out(tmp_path: Path) -> None:
    opens = prompt("a", {"1": RED, "2": (GREEN[0], GREEN[1], [1])}, opens_file=True)
    images = save_images(tmp_path, [(opens, ("green",) * 4), (prompt("b", {"1": RED}), ("red",) * 4)])
    official = DPGBench("p", PixelAnswerer(), "official").score(images)
    assert official.scores["overall"].by_prompt == {"b": 100}
    assert official.protocol["left_out"] == ["a"]
    corrected = DPGBench("p", PixelAnswerer(), "corrected").score(images)
    assert corrected.scores["overall"].by_prompt == {"a": 0, "b": 100}
    assert corrected.protocol["left_out"] == []


def save_grids(folder: Path, images: ImageSet) -> ImageSet:
    """Paste the four images of each prompt into a 2x2 grid, in the order of the published script."""
    files: dict[str, tuple[Path, ...]] = {}
    for name, paths in images.images.items():
        tiles = [Image.open(path) for path in paths]
        width, height = tiles[0].size
        grid = Image.new("RGB", (2 * width, 2 * height))
        for i, corner in enumerate(((0, 0), (width, 0), (0, height), (width, height))):
            grid.paste(tiles[i], corner)
        files[name] = (folder / f"{name}.png",)
        grid.save(files[name][0])
    return ImageSet(PromptSet("p", images.prompts.prompts, 1), files, {})


def test_the_images_of_a_grid_are_judged_separately(two_prompts: ImageSet, tmp_path: Path) -> None:
    """Grids and separate files yield the same scores, including the category scores, which depend on the last image."""
    grids = save_grids(tmp_path, two_prompts)
    for mode in MODES:
        separate = DPGBench("p", PixelAnswerer(), mode).score(two_prompts)
        cropped = DPGBench("p", PixelAnswerer(), mode, grids=True).score(grids)
        assert cropped.scores == separate.scores
        assert cropped.protocol == {**separate.protocol, "grids": True}
        assert cropped.protocol["images_each"] == 4
    whole = DPGBench("p", PixelAnswerer(), "corrected").score(grids)
    assert whole.scores["overall"].value != cropped.scores["overall"].value


def test_official_mode_needs_four_images(two_prompts: ImageSet, tmp_path: Path) -> None:
    grids, message = save_grids(tmp_path, two_prompts), r"p: mode official needs 4 images per prompt, not {}; use mode"
    official, with_grids = DPGBench("p", PixelAnswerer()), DPGBench("p", PixelAnswerer(), grids=True)
    for metric, images, count in ((official, grids, 1), (with_grids, two_prompts, 16)):
        with pytest.raises(UserError, match=message.format(count)):
            metric.score(images)
    with pytest.raises(UserError, match=message.format(1)):
        official.check_prompts(grids.prompts)
    official.check_prompts(two_prompts.prompts)
    with_grids.check_prompts(grids.prompts)
    DPGBench("p", PixelAnswerer(), "corrected").check_prompts(grids.prompts)
    Image.new("RGB", (15, 12)).save(grids.images["a"][0])
    with pytest.raises(UserError, match=r"a\.png: a 2x2 grid has even sides, but this image has 15x12 pixels"):
        with_grids.score(grids)


def test_truncated_questions_are_counted(two_prompts: ImageSet) -> None:
    class Limited(PixelAnswerer):
        max_text_tokens = 11

        def count_truncated(self, texts: Sequence[str]) -> int:
            return sum(len(text) > self.max_text_tokens for text in texts)

    result = DPGBench("p", Limited(), "corrected").score(two_prompts)
    assert (result.protocol["max_text_tokens"], result.protocol["truncated_questions"]) == (11, 3)
    assert result.notes == ("3 of 5 questions are truncated to the 11 tokens that the judge reads.",)
    assert "truncated_questions" not in DPGBench("p", PixelAnswerer()).score(two_prompts).protocol


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
