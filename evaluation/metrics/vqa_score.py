"""VQAScore (Lin et al. 2024, arXiv 2404.01291): how likely an image is to show its prompt, according to a model."""

from dataclasses import asdict
from statistics import fmean

from evaluation.contract import (
    AnswerJudge,
    ImageArray,
    ImageSet,
    QuestionAnswerer,
    Result,
    Score,
    open_image,
    result_name,
)
from evaluation.metrics.text_limits import truncation
from pocketdit.errors import ConfigError, UserError

BENCHMARK = "vqascore"
_PROMPT = "{prompt}"
_YES = ("Yes", "yes", " Yes", " yes")


class VqaScore:
    """Mean over all prompts of the mean probability that the answer is yes.

    The published model is CLIP-FlanT5, so the names of results contain the judge's name. The probability is p(yes) if
    the judge estimates the probabilities of given answers, and p(yes) / (p(yes) + p(no)) for any other judge.

    Args:
        prompts: Key of the prompt set in the evaluation.
        judge: Answers the question.
        question: The question, with {prompt} in place of the prompt. The default is the question that GenEval 2 uses
            for VQAScore.

    Raises:
        ConfigError: The question does not contain {prompt}.
    """

    def __init__(
        self,
        prompts: str,
        judge: QuestionAnswerer | AnswerJudge,
        question: str = 'Does this image show "{prompt}"? Answer the question with Yes or No.',
    ) -> None:
        if _PROMPT not in question:
            raise ConfigError(f"question: {question!r} does not contain {_PROMPT}")
        self.prompts = prompts
        self.judge = judge
        self.question = question

    def score(self, images: ImageSet) -> Result:
        """Score an image set.

        Raises:
            UserError: A prompt has no images, or an image cannot be decoded.
        """
        questions = {prompt.id: self.question.replace(_PROMPT, prompt.text) for prompt in images.prompts.prompts}
        missing = [name for name in questions if not images.images.get(name)]
        if missing or not questions:
            raise UserError(f"prompts without images: {len(missing)} of {len(questions)}; run the evaluation again")
        by_prompt = {
            name: fmean(self._probability(open_image(path), question) for path in images.images[name])
            for name, question in questions.items()
        }
        truncated, notes = truncation(self.judge, list(questions.values()), "questions")
        return Result(
            metric=result_name(BENCHMARK, self.judge.backend),
            scores={
                "overall": Score(
                    fmean(by_prompt.values()), sum(len(images.images[name]) for name in questions), by_prompt
                )
            },
            protocol={
                "prompts": images.prompts.name,
                "judge": asdict(self.judge.backend),
                "question": self.question,
                "value": "p(yes)" if isinstance(self.judge, AnswerJudge) else "p(yes) / (p(yes) + p(no))",
                **truncated,
            },
            notes=notes,
        )

    def _probability(self, image: ImageArray, question: str) -> float:
        if isinstance(self.judge, AnswerJudge):
            return self.judge.answer_probabilities(image, [question], [_YES])[0]
        return self.judge.yes_probabilities(image, [question])[0]
