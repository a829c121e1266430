import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluation.metrics.dpg.scoring import (
    MissingParentError,
    Question,
    after_dependencies,
    asked,
    broad_category,
    category_scores,
    check_golden,
    parse_questions,
    score_prompt,
)

# Worked out by hand. Image 1: 1 yes, 2 no -> 3 (of 2) loses its yes; 4 comes before its parent 5, which is zeroed only
# later, but 5's own answer is yes, so 4 stays: 1, 0, 0, 1, 0 -> 2/5. Image 2: all yes but 5: 4 is lost -> 3/5.
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


def test_the_case_worked_out_by_hand_agrees() -> None:
    assert list(check_golden({"cases": [CASE]})) == [("case 0 (5 questions)", None)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt_score", 0.5 + 1e-6), ("official_category_scores_raw_last_image", {str(i): 1.0 for i in range(1, 6)})],
)
def test_a_case_that_differs_is_reported(field: str, value: Any) -> None:
    case = {**copy.deepcopy(CASE), field: value}
    (outcome,) = check_golden({"cases": [case]})
    assert outcome[1] is not None


@pytest.mark.skipif("POCKETDIT_EVALUATION_DATA" not in os.environ, reason="needs the expected values")
def test_the_published_script_agrees() -> None:
    path = Path(os.environ["POCKETDIT_EVALUATION_DATA"]) / "golden" / "dpg_logic.json"
    outcomes = list(check_golden(json.loads(path.read_text())))
    assert len(outcomes) == 67
    assert [outcome for outcome in outcomes if outcome[1] is not None] == []


def test_corrected_categories_are_of_all_images_after_the_dependencies() -> None:
    score = score_prompt(questions(CASE), answers(CASE), "corrected")
    assert score.value == 0.5
    assert category_scores(questions(CASE), score) == {
        "entity - whole": [1, 1],
        "attribute - color": [0, 1, 0, 1],
        "global -": [1, 0],
        "relation - spatial": [0, 0],
    }


def test_official_categories_are_of_the_last_image_before_the_dependencies() -> None:
    case = {**CASE, "answers_per_image": CASE["answers_per_image"][::-1]}
    score = score_prompt(questions(case), answers(case), "official")
    assert category_scores(questions(case), score)["attribute - color"] == [0, 1]


def test_a_loss_is_passed_on_only_to_questions_that_come_later() -> None:
    scores = {1: 0.0, 2: 1.0, 3: 1.0}
    forwards = [Question(2, "", "", (1,)), Question(3, "", "", (2,)), Question(1, "", "", (0,))]
    assert after_dependencies(forwards, scores, "official") == {1: 0, 2: 0, 3: 0}
    assert after_dependencies([forwards[1], forwards[0]], scores, "official") == {1: 0, 2: 0, 3: 1}
    assert scores == {1: 0.0, 2: 1.0, 3: 1.0}


def test_the_official_script_stops_at_a_parent_that_it_dropped_and_the_corrected_does_not() -> None:
    dropped = asked(questions(CASE), "official", opens_file=True)
    assert [question.number for question in dropped] == [2, 3, 4, 5]
    with pytest.raises(MissingParentError):
        score_prompt(dropped, answers(CASE), "official")
    assert score_prompt(dropped, answers(CASE), "corrected").value == (1 / 4 + 2 / 4) / 2


def test_a_parent_that_was_dropped_goes_unseen_behind_one_that_was_answered_no() -> None:
    both = [Question(2, "", "", (0,)), Question(3, "", "", (2, 1))]
    assert after_dependencies(both, {2: 0.0, 3: 1.0}, "official") == {2: 0, 3: 0}
    with pytest.raises(MissingParentError):
        after_dependencies(both, {2: 1.0, 3: 1.0}, "official")


def test_only_the_item_that_opens_the_file_loses_a_question_and_only_in_official_mode() -> None:
    whole = questions(CASE)
    assert asked(whole, "official", opens_file=False) == whole
    assert asked(whole, "corrected", opens_file=True) == whole


def test_categories() -> None:
    assert Question(1, "", "attribute - color (dog, red (dark))", (0,)).category == "attribute - color"
    assert broad_category("attribute - color") == "attribute"
    assert broad_category("relation - non-spatial") == "relation"
    assert broad_category("global -") == "global"
