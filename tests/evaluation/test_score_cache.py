"""Tests for the conditions under which images are scored again, and under which stored results are refused."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation import score_cache
from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet, Result, Score
from evaluation.metrics.vqa_score import VqaScore
from evaluation.score_cache import score
from pocketdit.config.component import Component
from pocketdit.errors import RunError

METRIC = f"{__name__}.Counter"
calls: list[str] = []


class Counter:
    """A metric that records its calls and returns a given value for one of two prompts."""

    def __init__(self, prompts: str, text: str = "", value: float = 0.5, overall: float = 0.5) -> None:
        self.text, self.value, self.overall = text, value, overall

    def score(self, images: ImageSet) -> Result:
        calls.append(self.text)
        return Result("counter", {"overall": Score(self.overall, 2, {"a": 0.5, "b": self.value})}, {})


class Loss:
    def measure(self) -> Result:
        return Result("loss", {"t=0.5": Score(float("nan"), 1)}, {})


class Answerer:
    """A judge whose probability of "yes" is proportional to the length of the question."""

    backend = Backend("answerer", "1")

    def answers(self, image: ImageArray, questions: list[str]) -> list[str]:
        raise NotImplementedError

    def yes_probabilities(self, image: ImageArray, questions: list[str]) -> list[float]:
        return [len(question) / 1000 for question in questions]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["tests"]\n')
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    prompts = PromptSet("p", (Prompt("a", "x"), Prompt("b", "y")))
    return ImageSet(prompts, dict.fromkeys("ab", (tmp_path / "image.png",)), {"seed": 0})


def test_changed_settings_files_and_libraries_are_scored_again(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "judge" / "weights.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"0")

    def is_scored(**arguments: Any) -> bool:
        calls.clear()
        score(Component(METRIC, {"prompts": "p", "text": str(weights.parent), **arguments}), images, tmp_path / "cache")
        return bool(calls)

    assert is_scored()
    assert not is_scored()
    assert is_scored(value=0.25)
    assert not is_scored()
    weights.write_bytes(b"00")
    assert is_scored()
    os.utime(weights, (1, 1))
    assert is_scored()
    monkeypatch.setattr(score_cache, "version", lambda name: "0.0" if name == "transformers" else "1.0")
    assert is_scored()
    assert not is_scored()


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "", "\ud800"])
def test_any_text_may_be_an_argument(text: str, images: ImageSet, tmp_path: Path) -> None:
    """If an argument is the path of a file, the file is part of the key. However, some strings cannot be paths."""
    assert score(Component(METRIC, {"prompts": "p", "text": text}), images, tmp_path / "cache").metric == "counter"


def test_scores_of_a_part_of_a_benchmark_say_so(images: ImageSet, tmp_path: Path) -> None:
    part = replace(images, prompts=replace(images.prompts, name="geneval2"))
    for _ in range(2):  # the second result comes from the cache
        result = score(Component(METRIC, {"prompts": "p"}), part, tmp_path / "cache")
        assert result.notes == ("Computed from only 2 of the 800 prompts of geneval2.",)


def test_a_long_question_is_asked(images: ImageSet, tmp_path: Path) -> None:
    question = "Does it show {prompt}?" + " Look carefully." * 20
    judge = Component(f"{__name__}.Answerer", {})
    metric = Component("evaluation.metrics.vqa_score.VqaScore", {"prompts": "p", "judge": judge, "question": question})
    assert VqaScore.__name__ in metric.class_path
    value = score(metric, images, tmp_path / "cache").scores["overall"].value
    assert value == pytest.approx((len(question) - len("{prompt}") + 1) / 1000)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_and_not_kept(value: float, images: ImageSet, tmp_path: Path) -> None:
    for arguments, message in (
        ({"value": value}, "counter: the score 'overall' of prompt b is not finite; check the weights"),
        ({"overall": value}, "counter: the score 'overall' is not finite; check the weights"),
    ):
        for _ in range(2):
            calls.clear()
            with pytest.raises(RunError, match=message):
                score(Component(METRIC, {"prompts": "p", **arguments}), images, tmp_path / "cache")
            assert calls
    with pytest.raises(RunError, match=r"loss: the score 't=0\.5' is not finite"):
        score(Component(f"{__name__}.Loss", {}), None, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def _truncate(text: str) -> str:
    return text[: len(text) // 2]


def _change_a_digit(text: str) -> str:
    return text.replace("0.25", "0.75", 1)


def _forget_the_checksum(text: str) -> str:
    """Convert a stored result to the layout of earlier versions, which had no checksum."""
    return json.dumps(json.loads(text)["result"])


@pytest.mark.parametrize(
    "damage",
    [_truncate, _change_a_digit, _forget_the_checksum, lambda _: "", lambda _: "[]", lambda _: "[" * 9999],
    ids=["truncated", "changed", "earlier", "empty", "list", "nested"],
)
def test_damaged_scores_are_computed_again(
    damage: Callable[[str], str], images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, component = tmp_path / "cache", Component(METRIC, {"prompts": "p", "value": 0.25})
    calls.clear()
    expected = score(component, images, cache)
    assert score(component, images, cache) == expected
    assert len(calls) == 1
    (file,) = cache.iterdir()
    file.write_text(damage(file.read_text()))
    capsys.readouterr()
    assert score(component, images, cache) == expected
    assert len(calls) == 2
    assert f"note: {file} cannot be read or is damaged" in capsys.readouterr().out
    assert score(component, images, cache) == expected
    assert len(calls) == 2
