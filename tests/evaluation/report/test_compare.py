"""Tests for comparing two reports prompt by prompt."""

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


def score(values: dict[str, float], value: float | None = None) -> Score:
    return Score(sum(values.values()) / len(values) if value is None else value, len(values), values)


def test_the_difference_of_a_mean_of_categories_is_that_of_the_scores() -> None:
    """As in GenEval, the tags have equal weights, although 6 prompts have one tag and 2 have the other."""
    reports = []
    for gains in ((0.0, 0.0), (0.5, 0.1)):
        easy = {f"e{i}": 0.1 * (i % 3) + gains[0] * (i % 2) for i in range(6)}
        hard = {f"h{i}": 0.2 + gains[1] * i for i in range(2)}
        tags = {"easy": score(easy), "hard": score(hard)}
        overall = score(easy | hard, (tags["easy"].value + tags["hard"].value) / 2)
        reports.append(Report("e", "s", (Result("geneval", {"overall": overall, **tags}, {}),), {}))
    before, after = (report.results[0].scores["overall"].value for report in reports)
    assert after - before == pytest.approx(0.15)  # (0.25 + 0.05) / 2; the mean over all prompts would be 0.2
    line = compare(*reports).splitlines()[1]
    assert line.startswith("geneval: +0.1500 (95% interval ")
    # Four prompts differ, so there are 16 sign patterns. Only the two with equal signs reach the observed difference.
    assert line.endswith("p = 0.125, 8 prompts")


def test_a_difference_that_is_constant_only_within_categories_has_no_interval() -> None:
    reports = []
    for gain in (0.0, 0.5):
        tags = {"a": score({"a0": gain, "a1": gain}), "b": score({"b0": 0.25, "b1": 0.25})}
        overall = score({"a0": gain, "a1": gain, "b0": 0.25, "b1": 0.25})
        reports.append(Report("e", "s", (Result("m", {"overall": overall, **tags}, {}),), {}))
    assert compare(*reports).splitlines()[1] == "m: +0.2500, p = 0.5, 4 prompts"


def test_scores_that_are_not_means_over_prompts_say_so() -> None:
    reports = [
        Report("e", "s", (Result("m", {"pooled": score({"a": 0.0, "b": shift}, shift * 0.9)}, {}),), {})
        for shift in (0.5, 1.0)
    ]
    assert compare(*reports).splitlines()[1].startswith("m pooled (means over prompts): +0.2500 ")


def test_settings_of_the_same_metric_are_not_mixed_up() -> None:
    """Results with two prefixes are paired in the order of the evaluation. Settings or judges that differ are named."""

    def clip(prefix: str, version: str, value: float) -> Result:
        values = {"a": value, "b": value + 0.1}
        return Result("clip-score (x)", {"overall": score(values)}, {"prefix": prefix, "judge": {"version": version}})

    first = Report("e", "a", (clip("", "1", 0.1), clip("A photo depicts ", "1", 0.3)), {})
    second = Report("e", "b", (clip("", "1", 0.2), clip("A photo of ", "2", 0.7)), {})
    assert compare(first, second).splitlines() == [
        "b minus a",
        "clip-score (x): +0.1000 on each of the 2 prompts, p = 0.5",
        "clip-score (x) 2: +0.4000 on each of the 2 prompts, p = 0.5",
        "clip-score (x) 2 differs in prefix: A photo of  instead of A photo depicts ",
        "clip-score (x) 2 differs in judge.version: 2 instead of 1",
    ]


def test_categories_of_only_one_report_are_listed() -> None:
    values = {"a": 0.0, "b": 1.0}
    reports = [
        Report("e", "s", (Result("m", {name: score(values) for name in names}, {}),), {})
        for names in (("x", "y"), ("x",))
    ]
    assert compare(*reports).splitlines()[1:] == [
        "m x: equal on all 2 prompts",
        "not compared, because they are not in both evaluations or have no per-prompt values: m y",
    ]


def test_metrics_without_values_by_prompt_are_listed() -> None:
    distance = Result("fd (x)", {"overall": Score(3.5, 40)}, {}, False)
    report = Report("e", "a", (example_result(), distance), {})
    assert "not in both evaluations or have no per-prompt values: fd (x)" in compare(report, report)


def test_reports_without_a_common_metric_are_an_error() -> None:
    other = Report("e", "c", (Result("other", {"overall": Score(1, 1)}, {}),), {})
    with pytest.raises(UserError, match="no metric with per-prompt values in common"):
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
