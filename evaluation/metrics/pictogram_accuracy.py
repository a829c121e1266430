"""Accuracy on captions of pictogram compositions: the share of images that show exactly what the caption describes."""

from evaluation.contract import ImageSet, Result
from evaluation.metrics.caption_accuracy import caption_accuracy

BENCHMARK = "pictogram-accuracy"


class PictogramAccuracy:
    """Share of correct images over all prompts ("overall") and for each group of captions.

    The rules of the judge know only the pictograms of this project's catalog, so the values are not GenEval scores.

    Args:
        prompts: Key of a ``HeldOutCompositions`` prompt set in the evaluation.
    """

    def __init__(self, prompts: str) -> None:
        self.prompts = prompts

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per group (see ``caption_accuracy``).

        Raises:
            UserError: A prompt has no images or does not come from ``HeldOutCompositions``, or the extra ``emoji`` is
                not installed.
        """
        from evaluation.pictograms.detector import PictogramDetector
        from evaluation.pictograms.judge import first_error

        return caption_accuracy(
            BENCHMARK,
            PictogramDetector.backend,
            images,
            lambda image, expectation: first_error(image, expectation) is None,
        )
