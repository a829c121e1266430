"""Computes Soft-TIFA, GenEval 2's score, from the probabilities of the correct answers.

Source: Kamath et al. 2025, arXiv 2512.16853.

Every prompt has questions about its atoms: its objects, attributes, numbers, positions and actions. The arithmetic mean
(AM) of a prompt's probabilities estimates what fraction of its atoms an image shows, and the geometric mean (GM)
estimates whether it shows all of them. Scores are percentages, as in the published analysis.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evaluation.contract import Score
from pocketdit.errors import UserError

QUESTION = "{question} Answer in one word."
COUNT_PREFIX = "How many"
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class ScoredImage:
    """The probabilities of the correct answers to the questions about one image.

    Attributes:
        prompt: Id of the prompt.
        atoms: Number of the prompt's atoms, as the benchmark states it. The question about the number of an object that
            the prompt introduces with "a" does not count as an atom.
        skills: The skill that each question tests, such as "count".
        probabilities: The probability of the correct answer to each question.
    """

    prompt: str
    atoms: int
    skills: tuple[str, ...]
    probabilities: tuple[float, ...]


def spellings(question: str, answer: str) -> tuple[str, ...]:
    """Return the accepted spellings of a correct answer, which is "yes" or a number as a word or a digit.

    They include spellings with a capital letter and with a leading space.

    Raises:
        UserError: The answer to a question about a number is not a number word.
    """
    if not question.startswith(COUNT_PREFIX):
        return ("Yes", "yes", " Yes", " yes")
    if answer not in _NUMBERS:
        raise UserError(f"{question!r}: the answer {answer!r} is not one of {', '.join(_NUMBERS)}")
    digit = str(_NUMBERS.index(answer) + 1)
    word = answer.capitalize()
    return (answer, word, f" {answer}", f" {word}", digit, f" {digit}")


def arithmetic_mean(image: ScoredImage) -> float:
    """Return the arithmetic mean of the probabilities in percent."""
    return 100 * fmean(image.probabilities)


def geometric_mean(image: ScoredImage) -> float:
    """Return the geometric mean of the probabilities in percent, which is 0 if one of them is 0."""
    if min(image.probabilities) <= 0:
        return 0.0
    return 100 * math.exp(fmean(map(math.log, image.probabilities)))


def soft_tifa(images: Sequence[ScoredImage]) -> dict[str, Score]:
    """Compute all scores from the probabilities for at least one image.

    - "soft_tifa_gm" and "soft_tifa_am": means over prompts of the geometric and the arithmetic mean.
    - "skills_am/SKILL": mean over all questions that test the skill.
    - "atomicity_gm/N": mean of the geometric mean over the prompts with N atoms.
    """
    atoms = sorted({image.atoms for image in images})
    skills = sorted({skill for image in images for skill in image.skills})
    return {
        "soft_tifa_gm": _mean_over_prompts(images, geometric_mean),
        "soft_tifa_am": _mean_over_prompts(images, arithmetic_mean),
        **{f"skills_am/{skill}": _mean_over_questions(images, skill) for skill in skills},
        **{f"atomicity_gm/{n}": _mean_over_prompts([i for i in images if i.atoms == n], geometric_mean) for n in atoms},
    }


def _mean_over_prompts(images: Sequence[ScoredImage], value: Callable[[ScoredImage], float]) -> Score:
    """Return the mean over prompts of the mean over each prompt's images."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for image in images:
        by_prompt[image.prompt].append(value(image))
    means = {name: fmean(values) for name, values in by_prompt.items()}
    return Score(fmean(means.values()), len(images), means)


def _mean_over_questions(images: Sequence[ScoredImage], skill: str) -> Score:
    """Return the mean over all questions that test a skill, which is not the mean over prompts."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for image in images:
        pairs = zip(image.skills, image.probabilities, strict=True)
        by_prompt[image.prompt] += [100 * probability for name, probability in pairs if name == skill]
    pooled = [value for values in by_prompt.values() for value in values]
    samples = sum(skill in image.skills for image in images)
    return Score(fmean(pooled), samples, {name: fmean(values) for name, values in by_prompt.items() if values})


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare the functions above with stored cases from the published analysis.

    Args:
        data: ``data["cases"]`` lists objects with "prompts" (the "atom_count", "skills" and "probabilities" of each),
            the means over prompts "soft_tifa_am" and "soft_tifa_gm", the mean over questions for each skill
            ("skills_am"), and the mean over prompts for each number of atoms ("atomicity_gm").

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data["cases"]):
        yield f"case {number} ({len(case['prompts'])} prompts)", _golden_difference(case)


def _golden_difference(case: Mapping[str, Any]) -> str | None:
    images = [
        ScoredImage(str(i), prompt["atom_count"], tuple(prompt["skills"]), tuple(prompt["probabilities"]))
        for i, prompt in enumerate(case["prompts"])
    ]
    computed = {name: score.value for name, score in soft_tifa(images).items()}
    expected = {
        **{key: case[key] for key in ("soft_tifa_am", "soft_tifa_gm")},
        **{f"{key}/{name}": value for key in ("skills_am", "atomicity_gm") for name, value in case[key].items()},
    }
    if computed.keys() != expected.keys():
        return f"scores {sorted(computed)}, not {sorted(expected)}"
    for name, value in expected.items():
        if not math.isclose(computed[name], value, rel_tol=1e-9, abs_tol=1e-9):
            return f"{name} {computed[name]}, not {value}"
    return None
