"""Accuracy on captions of rendered scenes: the share of images that show what the caption describes."""

from evaluation.contract import Backend, ImageSet, Result
from evaluation.metrics.caption_accuracy import caption_accuracy
from evaluation.scenes.judges.judge import judge_image

BENCHMARK = "scene-accuracy"
JUDGE = Backend("scene-rules", "1")


class SceneAccuracy:
    """Share of correct images over all prompts ("overall") and for each group of captions.

    The rules of the judge work only for this project's rendered scenes, so the values are not GenEval scores.

    Args:
        prompts: Key of a ``HeldOutCaptions`` prompt set in the evaluation.
    """

    def __init__(self, prompts: str) -> None:
        self.prompts = prompts

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per group (see ``caption_accuracy``).

        Raises:
            UserError: A prompt has no images or does not come from ``HeldOutCaptions``.
        """
        return caption_accuracy(
            BENCHMARK, JUDGE, images, lambda image, expectation: judge_image(image, dict(expectation)).correct
        )
