"""Turns the stored answers into votes, without the raters who failed too many attention checks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from evaluation.preference.storage import tables


@dataclass(frozen=True)
class Answer:
    """A stored answer, including details that raters could not see.

    Attributes:
        rater: Number of the rater.
        position: Position of the comparison in the rater's session, from 0.
        kind: "pair", "noise" or "repeat".
        repeats: Position of the comparison that this comparison repeats, or None.
        prompt: Identifier of the prompt.
        left: Subject of the left image; "" for noise.
        right: Subject of the right image; "" for noise.
        question: Name of the question.
        choice: "left", "tie" or "right".
        answered: When the choice was last stored.
        changes: How often the rater changed the choice.
    """

    rater: int
    position: int
    kind: str
    repeats: int | None
    prompt: str
    left: str
    right: str
    question: str
    choice: str
    answered: datetime
    changes: int

    @property
    def preferred(self) -> str | None:
        """The preferred subject ("" for noise), or None for a tie."""
        return {"left": self.left, "right": self.right}.get(self.choice)


@dataclass(frozen=True)
class Vote:
    """A rater's answer to a question about a pair of images.

    Attributes:
        rater: Number of the rater.
        prompt: Identifier of the prompt.
        question: Name of the question.
        first: The first subject of the pair.
        second: The second subject of the pair.
        value: 1 if the first subject is preferred, 0 if the second one is, and 0.5 for a tie.
    """

    rater: int
    prompt: str
    question: str
    first: str
    second: str
    value: float


@dataclass(frozen=True)
class Attention:
    """The outcomes of a rater's attention checks.

    Attributes:
        checks: Number of checks that the rater has answered.
        noise: Number of comparisons with noise in which an answer does not choose the image.
        repeat: Number of repeated comparisons in which all answers contradict the earlier ones.
    """

    checks: int
    noise: int
    repeat: int

    @property
    def failures(self) -> int:
        """Number of failed checks."""
        return self.noise + self.repeat


def read_answers(connection: Connection, study: int) -> list[Answer]:
    """Read all answers of a study, ordered by rater, position and question."""
    own, rater, answer, prompt = tables.comparison, tables.rater, tables.answer, tables.prompt
    left, right = tables.image.alias("l"), tables.image.alias("r")
    query = (
        select(
            rater.c.number, own.c.position, own.c.kind, own.c.repeats, prompt.c.id, left.c.subject, right.c.subject,
            answer.c.question, answer.c.choice, answer.c.answered, answer.c.changes,
        )
        .join(own, own.c.rater == rater.c.id)
        .join(answer, answer.c.comparison == own.c.id)
        .join(left, left.c.id == own.c.left)
        .join(right, right.c.id == own.c.right)
        .join(prompt, (prompt.c.study == rater.c.study) & (prompt.c.number == own.c.prompt))
        .where(rater.c.study == study)
        .order_by(rater.c.number, own.c.position, answer.c.question)
    )  # fmt: skip
    return [Answer(*row) for row in connection.execute(query)]


def attention(answers: Sequence[Answer], questions: int) -> dict[int, Attention]:
    """Return a mapping from rater numbers to the outcomes of the attention checks.

    A check counts only after all of its questions have been answered.

    Args:
        answers: All answers of a study.
        questions: Number of questions of each comparison.
    """
    grouped: dict[int, dict[int, dict[str, Answer]]] = defaultdict(lambda: defaultdict(dict))
    for answer in answers:
        grouped[answer.rater][answer.position][answer.question] = answer
    outcomes = {}
    for rater, comparisons in grouped.items():
        checks = noise = repeat = 0
        for given in comparisons.values():
            one = next(iter(given.values()))
            if one.kind == "pair" or len(given) < questions:
                continue
            if one.kind == "noise":
                checks += 1
                noise += any(not answer.preferred for answer in given.values())
            elif one.repeats is not None and len(before := comparisons[one.repeats]) == questions:
                checks += 1
                repeat += all(
                    {answer.preferred, before[name].preferred} == {answer.left, answer.right}
                    for name, answer in given.items()
                )
        outcomes[rater] = Attention(checks, noise, repeat)
    return outcomes


def votes(
    answers: Sequence[Answer], pairs: Sequence[tuple[str, str]], outcomes: Mapping[int, Attention], allowed: int
) -> list[Vote]:
    """Return the votes of the raters who failed at most ``allowed`` attention checks.

    Answers to the checks are not votes. In particular, a repeated comparison counts only once.

    Args:
        answers: All answers of a study.
        pairs: The compared subjects, in the order of the report.
        outcomes: Mapping from rater numbers to the outcomes of the attention checks.
        allowed: Number of checks that a rater may fail.
    """
    first_of = {frozenset(pair): pair[0] for pair in pairs}
    counted = []
    for answer in answers:
        if answer.kind != "pair" or outcomes[answer.rater].failures > allowed:
            continue
        first = first_of[frozenset((answer.left, answer.right))]
        second = answer.right if first == answer.left else answer.left
        value = 0.5 if answer.preferred is None else float(answer.preferred == first)
        counted.append(Vote(answer.rater, answer.prompt, answer.question, first, second, value))
    return counted
