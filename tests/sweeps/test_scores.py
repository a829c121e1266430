"""Tests for the scores of images that a run's model generates."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.component import Component
from sweeps.scores import Score

HERE = "tests.sweeps.test_scores"


class Prompts:
    def load(self) -> list[str]:
        return ["a red circle"]


class Metric:
    def score(self, images: list[str]) -> Any:
        return SimpleNamespace(scores={"overall": SimpleNamespace(value=len(images) + 0.5)})


def test_metric_scores_images_of_the_run_at_the_given_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []

    class Run:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            created.append((args, kwargs))

        def images(self, prompts: list[str], root: Path) -> list[str]:
            assert root.is_dir()
            return prompts

    monkeypatch.setattr("evaluation.subjects.run.Run", Run)
    score = Score(Component(f"{HERE}.Prompts"), Component(f"{HERE}.Metric"), width=0.5, steps=4)
    assert score(RunFolder(tmp_path / "study" / "trial-0000")) == 1.5
    assert created == [(("study/trial-0000", 0.5, 4, None), {"runs": tmp_path})]
