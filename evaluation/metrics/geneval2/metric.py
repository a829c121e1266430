"""GenEval 2 (Kamath et al. 2025, arXiv 2512.16853), in which a model answers questions in place of a detector."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from evaluation.contract import AnswerJudge, ImageSet, Prompt, PromptSet, Result, open_image, result_name
from evaluation.metrics.geneval2.soft_tifa import QUESTION, ScoredImage, soft_tifa, spellings
from evaluation.prompts.geneval2 import is_valid
from pocketdit.errors import ConfigError, UserError

BENCHMARK = "geneval2"


class GenEval2:
    """Soft-TIFA: the mean probabilities of the right answers to questions about the atoms of each prompt.

    Args:
        prompts: Key of a prompt set with questions in its metadata (see ``GenEval2Prompts``).
        judge: Estimates the probabilities; the published model is Qwen/Qwen3-VL-8B-Instruct.
    """

    def __init__(self, prompts: str, judge: AnswerJudge) -> None:
        self.prompts = prompts
        self.judge = judge

    def check_prompts(self, prompts: PromptSet) -> None:
        """Check that all prompts have questions.

        Raises:
            ConfigError: A prompt has no questions.
            UserError: The answer to a question about a number is not a number word.
        """
        for prompt in prompts.prompts:
            if not is_valid(prompt.metadata):
                raise ConfigError(
                    f"prompt {prompt.id} has no valid questions: {self.prompts} is not a GenEval2Prompts set"
                )
            for question, answer in prompt.metadata["vqa_list"]:
                spellings(question, answer)

    def score(self, images: ImageSet) -> Result:
        """Return both means, and a score for each skill and for each number of atoms (see ``soft_tifa``).

        Raises:
            UserError: A prompt lacks images or questions, an answer is invalid, or an image cannot be decoded.
        """
        self.check_prompts(images.prompts)
        scored = [image for prompt in images.prompts.prompts for image in self._judge(images, prompt)]
        if not scored:
            raise UserError(f"prompt set {self.prompts} is empty")
        return Result(result_name(BENCHMARK, self.judge.backend), soft_tifa(scored), self._protocol(images))

    def _judge(self, images: ImageSet, prompt: Prompt) -> Iterator[ScoredImage]:
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
        pairs = prompt.metadata["vqa_list"]
        questions = [QUESTION.format(question=question) for question, _ in pairs]
        right = [spellings(question, answer) for question, answer in pairs]
        for path in paths:
            probabilities = self.judge.answer_probabilities(open_image(path), questions, right)
            yield ScoredImage(
                prompt.id, prompt.metadata["atom_count"], tuple(prompt.metadata["skills"]), tuple(probabilities)
            )

    def _protocol(self, images: ImageSet) -> dict[str, Any]:
        return {
            "benchmark": BENCHMARK,
            "prompts": images.prompts.name,
            "prompt_count": len(images.prompts.prompts),
            "images_each": images.prompts.images_each,
            "judge": asdict(self.judge.backend),
            "question": QUESTION,
            "answer": "sum of the probabilities of the first tokens of all spellings of the right answer",
        }
