"""Tests for result files and confidence intervals."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract import Result, Score
from evaluation.report import results
from evaluation.report.results import Report
from pocketdit.errors import UserError
from tests.evaluation.report.example import example_result, mean_score


def test_results_are_saved_and_loaded(tmp_path: Path) -> None:
    distance = Result("fd (x)", {"overall": Score(3.5, 40)}, {}, False, notes=("Few images.",))
    report = Report("eval", "run 1x", (example_result(), distance), {"p": {"seed": 0}})
    path = results.save(report, tmp_path, 200)
    assert results.load(path) == results.load(tmp_path) == report
    saved = path.read_text()
    for text, message in (
        ("{", "not results"),
        ('{"schema": 99}', "results have schema 99, but this version reads 1"),
        ('{"schema": 1}', "not results"),
        (saved.replace("3.5", '"three"'), "not results"),
        (saved.replace('"by_prompt": {', '"by_prompt": {"x": [],', 1), "not results"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            results.load(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        results.load(tmp_path / "none")


def test_all_results_are_loaded_oldest_first(tmp_path: Path) -> None:
    assert results.load_all(tmp_path) == []
    for age, name in enumerate(("new", "old")):
        (tmp_path / name / "deeper").mkdir(parents=True)
        path = results.save(Report("eval", name, (example_result(),), {}), tmp_path / name / "deeper", 200)
        os.utime(path, (1000 - age, 1000 - age))
    assert [report.subject for report in results.load_all(tmp_path)] == ["old", "new"]


def test_interval_of_a_mean_of_categories_is_stratified() -> None:
    """As in GenEval, tags have equal weights, so the score is not the mean over the 90 easy and 10 hard prompts."""
    easy = {f"e{i}": 1.0 for i in range(90)}
    hard = {f"h{i}": float(i % 2) for i in range(10)}
    scores = {"easy": mean_score(easy), "hard": mean_score(hard), "overall": Score(0.75, 100, easy | hard)}
    low, high = results.interval(Result("g", scores, {}), "overall", 4000) or (0, 0)
    # Only the hard tag's mean varies. It has half of the weight, so the standard error is 0.5 * sqrt(0.25 / 10).
    assert low == pytest.approx(0.75 - 1.96 * 0.5 * math.sqrt(0.025), abs=0.03)
    assert high > 0.82


def test_scores_that_are_not_means_have_no_interval() -> None:
    by_prompt = {"a": 0.5, "b": 1.0}
    assert results.interval(Result("g", {"overall": Score(0.2, 2, by_prompt)}, {}), "overall") is None
    assert results.interval(Result("g", {"overall": Score(3.5, 2)}, {}), "overall") is None


def test_interval_contains_the_mean_and_is_reproducible() -> None:
    result = example_result()
    bounds = results.interval(result, "overall")
    assert bounds is not None
    assert bounds == results.interval(result, "overall")
    assert bounds[0] < result.scores["overall"].value < bounds[1]


@pytest.mark.parametrize("value", [1.0, 0.0, 0.1, 1 / 3])
def test_a_constant_score_has_no_interval(value: float) -> None:
    """A percentile interval would be a single number, and 0.1 would even lie outside of it because of rounding."""
    values = {f"p{i}": value for i in range(20)}
    score = Score(sum(values.values()) / 20, 20, values)
    assert results.interval(Result("m", {"overall": score}, {}), "overall", 200) is None
    tags = {"a": mean_score({"p0": 0.0, "p1": 0.0}), "b": mean_score({"p2": 1.0, "p3": 1.0})}
    overall = mean_score({"p0": 0.0, "p1": 0.0, "p2": 1.0, "p3": 1.0})
    assert results.interval(Result("m", {"overall": overall, **tags}, {}), "overall", 200) is None
    values["p0"] = value + 0.01
    assert results.interval(Result("m", {"overall": mean_score(values)}, {}), "overall", 200) is not None


def test_every_score_has_a_name_of_its_own_in_mlflow() -> None:
    """Some of these results have the same metric name, prompts and category, so their names get a number."""
    entries: list[tuple[str, dict[str, Any]]] = [
        ("fd (x)", {"prompts": "p", "reference": "train"}),
        ("fd (x)", {"prompts": "p", "reference": "validation"}),
        ("fd (x)", {"prompts": "q"}),
        ("t2i (y)", {"category": "spatial", "prompts": 300, "detection_threshold": 0.2}),
        ("t2i (y)", {"category": "spatial", "prompts": 300, "detection_threshold": 0.3}),
        ("t2i (y)", {"category": "color", "prompts": 300}),
        ("geneval", {"prompts": "p"}),
    ]
    scored = [Result(name, {"overall": Score(float(i), 1)}, entry) for i, (name, entry) in enumerate(entries)]
    assert results.summary(scored) == {
        "fd x p/overall": 0.0,
        "fd x p 2/overall": 1.0,
        "fd x q/overall": 2.0,
        "t2i y spatial/overall": 3.0,
        "t2i y spatial 2/overall": 4.0,
        "t2i y color/overall": 5.0,
        "geneval/overall": 6.0,
    }
