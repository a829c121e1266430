"""DPG-Bench (Hu et al. 2024, arXiv 2403.05135): asks questions about the images of dense prompts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.contract import Backend, ImageSet, Prompt, QuestionAnswerer, Result, Score, open_image, result_name
from evaluation.metrics.dpg.questions import OPENS_FILE, read_questions
from evaluation.metrics.dpg.scoring import (
    MissingParentError,
    Mode,
    PromptScore,
    Question,
    broad_category,
    category_scores,
    questions_to_ask,
    score_prompt,
)
from pocketdit.errors import UserError


@dataclass
class _Category:
    """Scores of a category's questions and numbers of images, by prompt."""

    by_prompt: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    images: dict[str, int] = field(default_factory=dict)

    def score(self) -> Score:
        pooled = [value for values in self.by_prompt.values() for value in values]
        by_prompt = {name: 100 * sum(values) / len(values) for name, values in self.by_prompt.items()}
        return Score(100 * sum(pooled) / len(pooled), sum(self.images.values()), by_prompt)


class DPGBench:
    """Percentage of questions answered yes, computed as defined in ``evaluation.metrics.dpg.scoring``.

    The published script also mixes up categories when several GPUs share the work. Neither mode reproduces this error.

    Args:
        prompts: Key of a prompt set with questions in its metadata (see ``DPGPrompts``).
        judge: Answers the questions. Any answer other than "yes" is treated as "no".
        mode: "official" computes scores as the published script does, including its errors, so that totals are
            comparable with published ones. "corrected" asks every question and computes the categories from all
            images, after dependencies are applied. The name of the result then contains "corrected".

    Raises:
        UserError: The mode is unknown.
    """

    def __init__(self, prompts: str, judge: QuestionAnswerer, mode: Mode = "official") -> None:
        if mode not in ("official", "corrected"):
            raise UserError(f"mode must be official or corrected, not {mode}")
        self.prompts = prompts
        self.judge = judge
        self.mode: Mode = mode

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per category, such as "L1/attribute" and "L2/attribute - color".

        A prompt's value is the mean over its images, and "overall" is the mean over prompts. A category's value is
        the mean over its questions, not over its prompts. In mode "official", prompts that the published script cannot
        score are left out of all scores and listed in the protocol.

        Raises:
            UserError: A prompt has no images or no questions, or an image cannot be decoded.
        """
        values: dict[str, float] = {}
        categories: dict[str, _Category] = {}
        image_counts: dict[str, int] = {}
        for prompt in images.prompts.prompts:
            questions = questions_to_ask(read_questions(prompt), self.mode, bool(prompt.metadata.get(OPENS_FILE)))
            answers = self._answers(images, prompt, questions)
            if (score := self._score(questions, answers)) is None:
                continue
            values[prompt.id], image_counts[prompt.id] = 100 * score.value, len(answers)
            category_images = 1 if self.mode == "official" else len(answers)
            for name, scores in category_scores(questions, score).items():
                for label in (f"L1/{broad_category(name)}", f"L2/{name}"):
                    category = categories.setdefault(label, _Category())
                    category.by_prompt[prompt.id].extend(scores)
                    category.images[prompt.id] = category_images
        if not values:
            raise UserError(f"prompt set {self.prompts} has no prompts that DPG-Bench can score")
        others = [Backend("corrected", "")] if self.mode == "corrected" else []
        overall = Score(sum(values.values()) / len(values), sum(image_counts.values()), values)
        return Result(
            result_name("dpg", self.judge.backend, *others),
            {"overall": overall, **{label: categories[label].score() for label in sorted(categories)}},
            self._protocol(images, [prompt.id for prompt in images.prompts.prompts if prompt.id not in values]),
        )

    def _answers(self, images: ImageSet, prompt: Prompt, questions: Sequence[Question]) -> list[dict[int, str]]:
        """Return the answers by question number for each image."""
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
        texts = [question.text for question in questions]
        return [
            {
                question.number: answer
                for question, answer in zip(questions, self.judge.answers(open_image(path), texts), strict=True)
            }
            for path in paths
        ]

    def _score(self, questions: Sequence[Question], answers: Sequence[Mapping[int, str]]) -> PromptScore | None:
        """Return the score of a prompt, or None if the published script does not score it.

        This happens if the question that the script drops is the only one, or if another question depends on it.
        """
        if not questions:
            return None
        try:
            return score_prompt(questions, answers, self.mode)
        except MissingParentError:
            return None

    def _protocol(self, images: ImageSet, left_out: Sequence[str]) -> dict[str, Any]:
        return {
            "benchmark": "dpg",
            "mode": self.mode,
            "prompts": images.prompts.name,
            "prompt_count": len(images.prompts.prompts),
            "images_each": images.prompts.images_each,
            "left_out": list(left_out),
            "judge": asdict(self.judge.backend),
        }
