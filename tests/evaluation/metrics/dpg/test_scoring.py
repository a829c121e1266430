"""Tests DPG-Bench's scores on a hand-computed case, and on the published script's cases if available."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluation.metrics.dpg.scoring import (
    MissingParentError,
    Question,
    apply_dependencies,
    broad_category,
    category_scores,
    check_golden,
    parse_questions,
    questions_to_ask,
    score_prompt,
)

# Computed by hand. For image 1, the answer to question 2 is no, so question 3, which depends on it, is set to 0, and
# then question 5 as well. Question 4 comes before its parent 5, so it depends on the original answer to question 5,
# which is yes. The scores are 1, 0, 0, 1 and 0, with a mean of 2/5. For image 2, only the answer to question 5 is not
# yes, so question 4 is set to 0, and the mean is 3/5.
CASE: dict[str, Any] = {
    "dependency": {"1": [0], "2": [1], "3": [2], "4": [5], "5": [3]},
    "tuple": {
        "1": "entity - whole (dog)",
        "2": "attribute - color (dog, red)",
        "3": "attribute - color (collar, blue)",
        "4": "global - (photo)",
        "5": "relation - spatial (dog, house, in)",
    },
    "answers_per_image": [
        {"1": "yes", "2": "no", "3": "yes", "4": "yes", "5": "yes"},
        {"1": "yes", "2": "yes", "3": "yes", "4": "yes", "5": "yes it is"},
    ],
    "prompt_score": 0.5,
    "official_category_scores_raw_last_image": {"1": 1.0, "2": 1.0, "3": 1.0, "4": 1.0, "5": 0.0},
}


def questions(case: dict[str, Any]) -> tuple[Question, ...]:
    return parse_questions(case["tuple"], case["tuple"], case["dependency"])


def answers(case: dict[str, Any]) -> list[dict[int, str]]:
    return [{int(number): answer for number, answer in image.items()} for image in case["answers_per_image"]]


def test_hand_computed_case_agrees() -> None:
    assert list(check_golden({"cases": [CASE]})) == [("case 0 (5 questions)", None)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt_score", 0.5 + 1e-6), ("official_category_scores_raw_last_image", {str(i): 1.0 for i in range(1, 6)})],
)
def test_differing_case_is_reported(field: str, value: Any) -> None:
    case = {**copy.deepcopy(CASE), field: value}
    (outcome,) = check_golden({"cases": [case]})
    assert outcome[1] is not None


@pytest.mark.skipif("POCKETDIT_EVALUATION_DATA" not in os.environ, reason="POCKETDIT_EVALUATION_DATA is not set")
def test_published_script_agrees() -> None:
    path = Path(os.environ["POCKETDIT_EVALUATION_DATA"]) / "golden" / "dpg_logic.json"
    outcomes = list(check_golden(json.loads(path.read_text())))
    assert len(outcomes) == 67
    assert [outcome for outcome in outcomes if outcome[1] is not None] == []


def test_corrected_categories_use_all_images_after_dependencies() -> None:
    score = score_prompt(questions(CASE), answers(CASE), "corrected")
    assert score.value == 0.5
    assert category_scores(questions(CASE), score) == {
        "entity - whole": [1, 1],
        "attribute - color": [0, 1, 0, 1],
        "global -": [1, 0],
        "relation - spatial": [0, 0],
    }


def test_official_categories_use_the_last_image_before_dependencies() -> None:
    case = {**CASE, "answers_per_image": CASE["answers_per_image"][::-1]}
    score = score_prompt(questions(case), answers(case), "official")
    assert category_scores(questions(case), score)["attribute - color"] == [0, 1]


def test_zeroed_scores_affect_only_later_questions() -> None:
    scores = {1: 0.0, 2: 1.0, 3: 1.0}
    questions = [Question(2, "", "", (1,)), Question(3, "", "", (2,)), Question(1, "", "", (0,))]
    assert apply_dependencies(questions, scores, "official") == {1: 0, 2: 0, 3: 0}
    assert apply_dependencies([questions[1], questions[0]], scores, "official") == {1: 0, 2: 0, 3: 1}
    assert scores == {1: 0.0, 2: 1.0, 3: 1.0}


def test_dropped_parent_is_an_error_in_official_mode_only() -> None:
    remaining = questions_to_ask(questions(CASE), "official", opens_file=True)
    assert [question.number for question in remaining] == [2, 3, 4, 5]
    with pytest.raises(MissingParentError):
        score_prompt(remaining, answers(CASE), "official")
    assert score_prompt(remaining, answers(CASE), "corrected").value == (1 / 4 + 2 / 4) / 2


def test_dropped_parent_is_ignored_after_a_parent_answered_no() -> None:
    questions = [Question(2, "", "", (0,)), Question(3, "", "", (2, 1))]
    assert apply_dependencies(questions, {2: 0.0, 3: 1.0}, "official") == {2: 0, 3: 0}
    with pytest.raises(MissingParentError):
        apply_dependencies(questions, {2: 1.0, 3: 1.0}, "official")


def test_first_question_of_the_file_is_dropped_in_official_mode_only() -> None:
    complete = questions(CASE)
    assert questions_to_ask(complete, "official", opens_file=False) == complete
    assert questions_to_ask(complete, "corrected", opens_file=True) == complete


def test_categories_are_parsed() -> None:
    assert Question(1, "", "attribute - color (dog, red (dark))", (0,)).category == "attribute - color"
    assert broad_category("attribute - color") == "attribute"
    assert broad_category("relation - non-spatial") == "relation"
    assert broad_category("global -") == "global"
