"""GenEval (Ghosh et al. 2023, arXiv 2310.11513): checks the number, color and position of objects."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from evaluation.contract import (
    COLORS,
    Backend,
    ColorReader,
    Detector,
    ImageArray,
    ImageSet,
    PromptSet,
    Result,
    Score,
    open_image,
    result_name,
)
from evaluation.metrics.geneval.logic import POSITION_THRESHOLD, find_errors, keep_detections
from evaluation.prompts.geneval import is_valid
from pocketdit.errors import ConfigError, UserError


@dataclass(frozen=True)
class Constants:
    """The benchmark's constants, documented in ``GenEval``."""

    threshold: float = 0.3
    counting_threshold: float = 0.9
    most_of_a_class: int = 16
    max_overlap: float = 1.0
    position_threshold: float = POSITION_THRESHOLD


BENCHMARK = "geneval"
DRIFT = (
    "For recent models, GenEval has drifted from human judgment by up to 17.7 points (Kamath et al. 2025, arXiv "
    "2512.16853). GenEval 2 replaces it."
)
_PUBLISHED = Constants()


class GenEval:
    """Share of correct images for each type of prompt ("tag"), and "overall", the mean of these shares.

    If a judge or a constant is not the published one, the name of the result says so.

    Args:
        prompts: Key of a prompt set with metadata in the benchmark's format (see ``GenEvalPrompts``).
        detector: Detects objects.
        colors: Reads the colors of detected objects.
        threshold: Only detections with a higher score are considered.
        counting_threshold: Replaces ``threshold`` for prompts with the tag "counting".
        most_of_a_class: Maximum number of detections per class. Those with the highest scores are considered.
        max_overlap: Maximum intersection over union of boxes of one class; 1 keeps all boxes.
        position_threshold: Fraction of the boxes' side lengths by which the offset between their centers is reduced.
    """

    def __init__(
        self,
        prompts: str,
        detector: Detector,
        colors: ColorReader,
        threshold: float = _PUBLISHED.threshold,
        counting_threshold: float = _PUBLISHED.counting_threshold,
        most_of_a_class: int = _PUBLISHED.most_of_a_class,
        max_overlap: float = _PUBLISHED.max_overlap,
        position_threshold: float = _PUBLISHED.position_threshold,
    ) -> None:
        self.prompts = prompts
        self.detector = detector
        self.colors = colors
        self.constants = Constants(threshold, counting_threshold, most_of_a_class, max_overlap, position_threshold)

    def check_prompts(self, prompts: PromptSet) -> None:
        """Check that all prompts have metadata in the benchmark's format.

        Raises:
            ConfigError: The metadata of a prompt is missing or has another format.
        """
        for prompt in prompts.prompts:
            if not is_valid(prompt.metadata):
                raise ConfigError(
                    f"prompt {prompt.id} has no tag or no valid clauses: {self.prompts} is not a GenEval prompt set"
                )

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per tag, in the order in which the tags first occur.

        A prompt's value is the share of its images that are correct. A tag's value is the share over all its images.
        "overall" weights the tags equally and is therefore not the mean of its ``by_prompt``.

        Raises:
            UserError: A prompt has no images or no metadata in the benchmark's format, or an image cannot be decoded.
        """
        self.check_prompts(images.prompts)
        correct: dict[str, dict[str, list[bool]]] = {}
        for prompt in images.prompts.prompts:
            paths = images.images.get(prompt.id, ())
            if not paths:
                raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
            verdicts = [not self.errors(open_image(path), prompt.metadata) for path in paths]
            correct.setdefault(prompt.metadata["tag"], {})[prompt.id] = verdicts
        tags = {tag: _score(verdicts) for tag, verdicts in correct.items()}
        if not tags:
            raise UserError(f"prompt set {self.prompts} is empty")
        overall = Score(
            value=sum(score.value for score in tags.values()) / len(tags),
            samples=sum(score.samples for score in tags.values()),
            by_prompt={name: value for score in tags.values() for name, value in score.by_prompt.items()},
        )
        notes = (DRIFT,) if images.prompts.name == BENCHMARK else ()
        return Result(self._name(), {"overall": overall, **tags}, self._protocol(images), notes=notes)

    def errors(self, image: ImageArray, metadata: Mapping[str, Any]) -> list[str]:
        """Return the reasons why an image does not match a prompt's metadata, or an empty list if it matches."""
        constants = self.constants
        threshold = constants.counting_threshold if metadata["tag"] == "counting" else constants.threshold
        detections = keep_detections(
            self.detector.detect(image), threshold, constants.most_of_a_class, constants.max_overlap
        )
        return find_errors(detections, metadata, partial(self.colors.colors, image), constants.position_threshold)

    def _name(self) -> str:
        others = [] if self.constants == _PUBLISHED else [Backend("other constants", "")]
        return result_name(BENCHMARK, self.detector.backend, self.colors.backend, *others)

    def _protocol(self, images: ImageSet) -> dict[str, Any]:
        return {
            "benchmark": BENCHMARK,
            "prompts": images.prompts.name,
            "prompt_count": len(images.prompts.prompts),
            "images_each": images.prompts.images_each,
            "detector": asdict(self.detector.backend),
            "color_reader": asdict(self.colors.backend),
            "colors": list(COLORS),
            "overall": "mean of the tags' shares of correct images",
            **asdict(self.constants),
        }


def _score(verdicts: Mapping[str, list[bool]]) -> Score:
    pooled = [verdict for prompt_verdicts in verdicts.values() for verdict in prompt_verdicts]
    shares = {name: sum(prompt_verdicts) / len(prompt_verdicts) for name, prompt_verdicts in verdicts.items()}
    return Score(sum(pooled) / len(pooled), len(pooled), shares)
