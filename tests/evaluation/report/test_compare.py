"""Comparing two reports prompt by prompt."""

import pytest

from evaluation.contract import Result, Score
from evaluation.report.compare import compare
from evaluation.report.results import Report
from pocketdit.errors import UserError
from tests.evaluation.report.example import example_result


def test_reports_are_compared_prompt_by_prompt() -> None:
    first, second = (Report("e", name, (example_result(shift),), {}) for name, shift in (("a", 0.0), ("b", 0.25)))
    text = compare(first, second)
    assert "b minus a" in text
    assert "+0.2500" in text
    assert "images differ" not in text


def test_differing_settings_are_listed() -> None:
    reports = [
        Report("e", "c", (example_result(),), {"p": {"steps": steps, "seed": 0, "weights_sha256": str(steps)}})
        for steps in (6, 24)
    ]
    text = compare(*reports)
    assert "images differ in steps: 24 instead of 6" in text
    assert text.count("images differ") == 1


def test_metrics_without_values_by_prompt_are_listed() -> None:
    distance = Result("fd (x)", {"overall": Score(3.5, 40)}, {}, False)
    report = Report("e", "a", (example_result(), distance), {})
    assert "not compared (not in both, or no values by prompt): fd (x)" in compare(report, report)


def test_reports_without_a_common_metric_are_an_error() -> None:
    other = Report("e", "c", (Result("other", {"overall": Score(1, 1)}, {}),), {})
    with pytest.raises(UserError, match="no metric with values by prompt in common"):
        compare(Report("e", "a", (example_result(),), {}), other)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0.1] * 20, [0.1] * 20, "equal on all 20 prompts"),
        ([0.1 + 0.2] * 20, [0.3] * 20, "equal on all 20 prompts"),
        ([0.1 + 0.2, 0.3] * 10, [0.3, 0.1 + 0.2] * 10, "equal on all 20 prompts"),
        ([0.25] * 5, [0.75] * 5, "+0.5000 on each of the 5 prompts, p = 0.0625"),
        ([0.25] * 5, [0.25] * 4 + [0.75], "+0.1000 (95% interval +0.0000 to +0.3000), p = 1, 5 prompts"),
    ],
)
def test_equal_and_constant_differences(before: list[float], after: list[float], expected: str) -> None:
    reports = []
    for values in (before, after):
        score = Score(sum(values) / len(values), len(values), {str(i): value for i, value in enumerate(values)})
        reports.append(Report("e", "s", (Result("m", {"overall": score}, {}),), {}))
    assert compare(*reports) == f"s minus s\nm: {expected}"
