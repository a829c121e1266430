"""DPG-Bench (Hu et al. 2024, arXiv 2403.05135): asks questions about the images of dense prompts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.contract import (
    Backend,
    ImageArray,
    ImageSet,
    Prompt,
    PromptSet,
    QuestionAnswerer,
    Result,
    Score,
    open_image,
    result_name,
)
from evaluation.metrics.dpg.grids import TILES, split_grid
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
from evaluation.metrics.text_limits import truncation
from pocketdit.errors import ConfigError, UserError


@dataclass
class _Category:
    """The scores of a category's questions and the number of images for each prompt."""

    by_prompt: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    images: dict[str, int] = field(default_factory=dict)

    def score(self) -> Score:
        pooled = [value for values in self.by_prompt.values() for value in values]
        by_prompt = {name: 100 * sum(values) / len(values) for name, values in self.by_prompt.items()}
        return Score(100 * sum(pooled) / len(pooled), sum(self.images.values()), by_prompt)


class DPGBench:
    """Percentage of questions answered yes, computed as defined in ``evaluation.metrics.dpg.scoring``.

    Args:
        prompts: Key of a prompt set with questions in its metadata (see ``DPGPrompts``).
        judge: Answers the questions. Any answer other than "yes" is treated as "no".
        mode: "official" computes scores as the published script does, including its errors, so that overall
            scores are comparable with published ones. "corrected" asks every question and computes the categories from
            all images, after dependencies are applied. The name of the result then contains "corrected". When several
            GPUs share the work, the published script also mixes up categories. Neither mode reproduces this error.
        grids: Whether each image file is a 2x2 grid of four images of its prompt, the format that the published script
            reads. The four images are then judged separately.

    Raises:
        UserError: The mode is unknown.
    """

    def __init__(self, prompts: str, judge: QuestionAnswerer, mode: Mode = "official", grids: bool = False) -> None:
        if mode not in ("official", "corrected"):
            raise UserError(f"mode must be official or corrected, not {mode}")
        self.prompts = prompts
        self.judge = judge
        self.mode: Mode = mode
        self.grids = grids

    def check_prompts(self, prompts: PromptSet) -> None:
        """Check that a prompt set can be scored, before its images are sampled.

        Raises:
            ConfigError: The number of images per prompt differs from the number that mode "official" requires.
            UserError: A prompt has no questions.
        """
        if not self.grids:
            self._check_count(prompts.images_each)
        for prompt in prompts.prompts:
            read_questions(prompt)

    def _check_count(self, count: int) -> None:
        if self.mode == "official" and count != TILES:
            raise ConfigError(
                f"{self.prompts}: mode official needs {TILES} images per prompt, not {count}; use mode corrected, or "
                "set grids=true if each file is a 2x2 grid, as the published script expects"
            )

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per category, such as "L1/attribute" and "L2/attribute - color".

        A prompt's value is the mean over its images, and "overall" is the mean over prompts. A category's value is
        the mean over its questions, not over its prompts. In mode "official", prompts that the published script cannot
        score are left out of all scores and listed in the protocol.

        Raises:
            ConfigError: The number of images per prompt differs from the number that mode "official" requires.
            UserError: A prompt has no images or no questions, or an image cannot be decoded.
        """
        values: dict[str, float] = {}
        categories: dict[str, _Category] = {}
        image_counts: dict[str, int] = {}
        asked: list[str] = []
        for prompt in images.prompts.prompts:
            questions = questions_to_ask(read_questions(prompt), self.mode, bool(prompt.metadata.get(OPENS_FILE)))
            answers = self._answers(images, prompt, questions)
            asked += [question.text for question in questions]
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
        truncated, notes = truncation(self.judge, asked, "questions")
        others = [Backend("corrected", "")] if self.mode == "corrected" else []
        overall = Score(sum(values.values()) / len(values), sum(image_counts.values()), values)
        return Result(
            result_name("dpg", self.judge.backend, *others),
            {"overall": overall, **{label: categories[label].score() for label in sorted(categories)}},
            {
                **self._protocol(images, [prompt.id for prompt in images.prompts.prompts if prompt.id not in values]),
                **truncated,
            },
            notes=notes,
        )

    def _answers(self, images: ImageSet, prompt: Prompt, questions: Sequence[Question]) -> list[dict[int, str]]:
        """Return, for each image, a mapping from question numbers to answers."""
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
        pictures = [picture for path in paths for picture in self._read(path)]
        self._check_count(len(pictures))
        texts = [question.text for question in questions]
        return [
            {
                question.number: answer
                for question, answer in zip(questions, self.judge.answers(picture, texts), strict=True)
            }
            for picture in pictures
        ]

    def _read(self, path: Path) -> Sequence[ImageArray]:
        """Return the images in a file."""
        image = open_image(path)
        if not self.grids:
            return [image]
        try:
            return split_grid(image)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error

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
            "images_each": images.prompts.images_each * (TILES if self.grids else 1),
            "grids": self.grids,
            "left_out": list(left_out),
            "judge": asdict(self.judge.backend),
        }
