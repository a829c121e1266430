"""The arithmetic of DPG-Bench (Hu et al. 2024, arXiv 2403.05135; TencentQQGYLab/ELLA, dpg_bench).

A prompt has numbered questions; each names the questions that it depends on ("Is the bicycle red?" means nothing
where there is no bicycle) and a tuple that says its category ("attribute - color (bicycle, red)").
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["official", "corrected"]

NO_PARENT = 0  # a dependency on it is none


@dataclass(frozen=True)
class Question:
    """``number``: within its prompt, from 1. ``fact``: what it asks about, as the file's column "tuple" has it.
    ``parents``: numbers of the questions that must be answered yes.
    """

    number: int
    text: str
    fact: str
    parents: tuple[int, ...]

    @property
    def category(self) -> str:
        """Level 2: "attribute - color" of "attribute - color (bicycle, red)"."""
        return self.fact.split("(")[0].strip()


@dataclass(frozen=True)
class PromptScore:
    """``value``: mean over the images, in [0, 1]. ``by_question``: the 0s and 1s that its categories are made of."""

    value: float
    by_question: Mapping[int, tuple[float, ...]]


class MissingParentError(KeyError):
    """A question depends on one that the prompt does not have; the published script stops at it."""


def broad_category(category: str) -> str:
    """Level 1 of a level 2 category: "attribute" of "attribute - color"."""
    return category.split("-")[0].strip()


def asked(questions: Sequence[Question], mode: Mode, opens_file: bool) -> Sequence[Question]:
    """The questions that count. ``opens_file``: their first one is the first row of the benchmark's question file,
    which the published script skips as if it were a header (its issue 61).
    """
    return questions[1:] if mode == "official" and opens_file else questions


def answer_score(answer: str) -> float:
    """1 where the answer is exactly "yes", else 0."""
    return float(answer == "yes")


def after_dependencies(questions: Sequence[Question], scores: Mapping[int, float], mode: Mode) -> dict[int, float]:
    """Scores by question, 0 where a parent's score is 0.

    The questions are taken in their order and zeroed in place: what a question lost counts for those that depend on
    it only if they come later.

    Raises:
        MissingParentError: in mode "official", at a parent that has no score. "corrected" passes over such parents.
    """
    result = dict(scores)
    for question in questions:
        for parent in question.parents:
            if parent == NO_PARENT or (mode == "corrected" and parent not in result):
                continue
            if parent not in result:
                raise MissingParentError(parent)
            if result[parent] == 0:
                result[question.number] = 0.0
                break
    return result


def score_prompt(questions: Sequence[Question], answers: Sequence[Mapping[int, str]], mode: Mode) -> PromptScore:
    """The score of a prompt from the answers about each of its images, by question.

    Its value is the mean over images of the mean over questions after the dependencies. ``by_question`` is, in mode
    "official", what the published script feeds to its categories: the last image's answers before the dependencies
    (its issue 60); in mode "corrected", the scores of all images after them.

    Raises:
        MissingParentError: see ``after_dependencies``.
    """
    raw = [{question.number: answer_score(image[question.number]) for question in questions} for image in answers]
    kept = [after_dependencies(questions, scores, mode) for scores in raw]
    value = sum(sum(scores.values()) / len(scores) for scores in kept) / len(kept)
    for_categories = raw[-1:] if mode == "official" else kept
    return PromptScore(value, {q.number: tuple(scores[q.number] for scores in for_categories) for q in questions})


def category_scores(questions: Sequence[Question], score: PromptScore) -> dict[str, list[float]]:
    """What a prompt adds to each level 2 category: the scores of its questions, to be pooled over the prompts."""
    found: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        found[question.category].extend(score.by_question[question.number])
    return dict(found)


def parse_questions(
    questions: Mapping[str, str], tuples: Mapping[str, str], dependencies: Mapping[str, Sequence[int]]
) -> tuple[Question, ...]:
    """Questions in the order of ``questions``; all three mappings are by the question's number, as text.

    Raises:
        KeyError: a number is not in all three.
    """
    return tuple(
        Question(int(number), text, tuples[number], tuple(dependencies[number])) for number, text in questions.items()
    )


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Runs stored cases through the functions above: the name of each, and None or what differs.

    ``data["cases"]``: "tuple" and "dependency" by question, "answers_per_image" (a list of answers by question), the
    "prompt_score", and "official_category_scores_raw_last_image" by question; all of the published script's.
    """
    for place, case in enumerate(data["cases"]):
        yield f"case {place} ({len(case['tuple'])} questions)", _difference(case)


def _difference(case: Mapping[str, Any]) -> str | None:
    questions = parse_questions({number: "" for number in case["dependency"]}, case["tuple"], case["dependency"])
    answers = [{int(number): answer for number, answer in image.items()} for image in case["answers_per_image"]]
    score = score_prompt(questions, answers, "official")
    if not math.isclose(score.value, case["prompt_score"], rel_tol=0, abs_tol=1e-12):
        return f"score {score.value}, not {case['prompt_score']}"
    pooled: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        pooled[question.category].append(case["official_category_scores_raw_last_image"][str(question.number)])
    found = category_scores(questions, score)
    return None if found == pooled else f"categories {found}, not {dict(pooled)}"
