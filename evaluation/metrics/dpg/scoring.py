"""Computes the scores of DPG-Bench (Hu et al. 2024, arXiv 2403.05135; TencentQQGYLab/ELLA, dpg_bench).

The questions of a prompt are numbered. Each question has a list of questions that it depends on ("Is the bicycle red?"
is meaningless without a bicycle) and a tuple that states its category ("attribute - color (bicycle, red)").
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["official", "corrected"]

NO_PARENT = 0  # the question file's marker for a question without dependencies


@dataclass(frozen=True)
class Question:
    """A question about the images of a prompt.

    Attributes:
        number: Number within its prompt, from 1.
        text: The question.
        fact: The fact in question, from the column "tuple" of the question file.
        parents: Numbers of the questions that this one depends on.
    """

    number: int
    text: str
    fact: str
    parents: tuple[int, ...]

    @property
    def category(self) -> str:
        """The level 2 category: "attribute - color" for "attribute - color (bicycle, red)"."""
        return self.fact.split("(")[0].strip()


@dataclass(frozen=True)
class PromptScore:
    """The score of a prompt.

    Attributes:
        value: Mean over its images, in [0, 1].
        by_question: Scores (0 or 1) of each question, by its number. Categories are computed by pooling these scores.
    """

    value: float
    by_question: Mapping[int, tuple[float, ...]]


class MissingParentError(KeyError):
    """A question depends on one that the prompt does not have. The published script then fails."""


def broad_category(category: str) -> str:
    """Return the level 1 category of a level 2 category: "attribute" for "attribute - color"."""
    return category.split("-")[0].strip()


def questions_to_ask(questions: Sequence[Question], mode: Mode, opens_file: bool) -> Sequence[Question]:
    """Return the questions to ask.

    Args:
        questions: All questions of a prompt.
        mode: "official" or "corrected".
        opens_file: Whether the first question is the first row of the benchmark's question file, which the published
            script skips as if it were a header (issue 61 of its repository).
    """
    return questions[1:] if mode == "official" and opens_file else questions


def answer_score(answer: str) -> float:
    """Return 1 if the answer is exactly "yes", else 0."""
    return float(answer == "yes")


def apply_dependencies(questions: Sequence[Question], scores: Mapping[int, float], mode: Mode) -> dict[int, float]:
    """Return the scores, with 0 for each question that has a parent with score 0.

    Questions are processed in order, so a score that is set to 0 affects only dependent questions that come later.

    Raises:
        MissingParentError: In mode "official", a parent has no score. Mode "corrected" ignores missing parents.
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
    """Score a prompt from the answers about each of its images.

    The value is the mean over images of the mean over questions after dependencies are applied. In mode "official",
    ``by_question`` contains the scores from which the published script computes its category scores, which are those of
    the last image before dependencies are applied (issue 60 of its repository). In mode "corrected", it contains the
    scores of all images after dependencies are applied.

    Args:
        questions: The questions that were asked.
        answers: For each image, a mapping from question numbers to answers.
        mode: "official" or "corrected".

    Raises:
        MissingParentError: See ``apply_dependencies``.
    """
    raw = [{question.number: answer_score(image[question.number]) for question in questions} for image in answers]
    final = [apply_dependencies(questions, scores, mode) for scores in raw]
    value = sum(sum(scores.values()) / len(scores) for scores in final) / len(final)
    for_categories = raw[-1:] if mode == "official" else final
    return PromptScore(value, {q.number: tuple(scores[q.number] for scores in for_categories) for q in questions})


def category_scores(questions: Sequence[Question], score: PromptScore) -> dict[str, list[float]]:
    """Return the scores of a prompt's questions, grouped by level 2 category."""
    scores: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        scores[question.category].extend(score.by_question[question.number])
    return dict(scores)


def parse_questions(
    questions: Mapping[str, str], tuples: Mapping[str, str], dependencies: Mapping[str, Sequence[int]]
) -> tuple[Question, ...]:
    """Return the questions in the order of ``questions``. All mappings are keyed by the question number as a string.

    Raises:
        KeyError: A number in ``questions`` is missing from another mapping.
    """
    return tuple(
        Question(int(number), text, tuples[number], tuple(dependencies[number])) for number, text in questions.items()
    )


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare the functions above with stored cases from the published script.

    Args:
        data: ``data["cases"]`` lists objects with the "tuple" and "dependency" of each question, "answers_per_image"
            (for each image, the answers to all questions), the "prompt_score", and each question's score in
            "official_category_scores_raw_last_image".

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data["cases"]):
        yield f"case {number} ({len(case['tuple'])} questions)", _golden_difference(case)


def _golden_difference(case: Mapping[str, Any]) -> str | None:
    questions = parse_questions({number: "" for number in case["dependency"]}, case["tuple"], case["dependency"])
    answers = [{int(number): answer for number, answer in image.items()} for image in case["answers_per_image"]]
    score = score_prompt(questions, answers, "official")
    if not math.isclose(score.value, case["prompt_score"], rel_tol=0, abs_tol=1e-12):
        return f"score {score.value}, not {case['prompt_score']}"
    expected: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        expected[question.category].append(case["official_category_scores_raw_last_image"][str(question.number)])
    computed = category_scores(questions, score)
    return None if computed == expected else f"categories {computed}, not {dict(expected)}"
