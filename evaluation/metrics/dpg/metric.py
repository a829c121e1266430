"""DPG-Bench (Hu et al. 2024, arXiv 2403.05135): questions about a dense prompt, asked of its pictures."""

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
    asked,
    broad_category,
    category_scores,
    score_prompt,
)
from pocketdit.errors import UserError


@dataclass
class _Category:
    """Scores of questions by prompt, and the pictures they are about."""

    by_prompt: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[str, int] = field(default_factory=dict)

    def score(self) -> Score:
        pooled = [value for values in self.by_prompt.values() for value in values]
        by_prompt = {name: 100 * sum(values) / len(values) for name, values in self.by_prompt.items()}
        return Score(100 * sum(pooled) / len(pooled), sum(self.pictures.values()), by_prompt)


class DPGBench:
    """Share of questions answered yes, times 100; see ``evaluation.metrics.dpg.scoring`` for how it is counted.

    ``prompts``: the name of a prompt set whose metadata holds questions in the benchmark's form (``load_prompts``).
    ``judge`` answers them; an answer counts only if it is exactly "yes". ``mode``: "official" counts as the published
    script does, its faults included, so that totals compare with published ones; "corrected" asks every question and
    takes the categories from all pictures, after the dependencies; the result's name then says "corrected".

    The published script's third fault, categories mixed where several GPUs share the work, is in neither mode.
    """

    def __init__(self, prompts: str, judge: QuestionAnswerer, mode: Mode = "official") -> None:
        if mode not in ("official", "corrected"):
            raise UserError(f"DPG-Bench's mode is official or corrected, not {mode}")
        self.prompts = prompts
        self.judge = judge
        self.mode: Mode = mode

    def score(self, images: ImageSet) -> Result:
        """ "overall", then a ``Score`` per category: "L1/attribute", "L2/attribute - color" and so on.

        A prompt's value is the mean over its pictures, "overall" the mean over the prompts. A category's value is
        the mean over its questions, not over its prompts. In mode "official", a prompt at which the published script
        stops (a question depends on one that was dropped) is left out of all scores; the protocol names it.

        Raises:
            UserError: a prompt has no picture or no questions, or a picture does not decode.
        """
        values: dict[str, float] = {}
        categories: dict[str, _Category] = {}
        pictures: dict[str, int] = {}
        for prompt in images.prompts.prompts:
            questions = asked(read_questions(prompt), self.mode, bool(prompt.metadata.get(OPENS_FILE)))
            answers = self._answers(images, prompt, questions)
            if (score := self._score(questions, answers)) is None:
                continue
            values[prompt.id], pictures[prompt.id] = 100 * score.value, len(answers)
            about = 1 if self.mode == "official" else len(answers)
            for name, scores in category_scores(questions, score).items():
                for label in (f"L1/{broad_category(name)}", f"L2/{name}"):
                    category = categories.setdefault(label, _Category())
                    category.by_prompt[prompt.id].extend(scores)
                    category.pictures[prompt.id] = about
        if not values:
            raise UserError(f"prompt set {self.prompts}: no prompt that DPG-Bench can score")
        others = [Backend("corrected", "")] if self.mode == "corrected" else []
        overall = Score(sum(values.values()) / len(values), sum(pictures.values()), values)
        return Result(
            result_name("dpg", self.judge.backend, *others),
            {"overall": overall, **{label: categories[label].score() for label in sorted(categories)}},
            self._protocol(images, [prompt.id for prompt in images.prompts.prompts if prompt.id not in values]),
        )

    def _answers(self, images: ImageSet, prompt: Prompt, questions: Sequence[Question]) -> list[dict[int, str]]:
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no picture; run the evaluation again")
        texts = [question.text for question in questions]
        return [
            {
                question.number: answer
                for question, answer in zip(questions, self.judge.answers(open_image(path), texts), strict=True)
            }
            for path in paths
        ]

    def _score(self, questions: Sequence[Question], answers: Sequence[Mapping[int, str]]) -> PromptScore | None:
        # The script never hears of an item whose only question it skipped, and passes over where it stops.
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
