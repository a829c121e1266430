"""GenEval (Ghosh et al. 2023, arXiv 2310.11513): are the objects there, in number, colour and place."""

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
    Result,
    Score,
    open_image,
    result_name,
)
from evaluation.metrics.geneval.logic import POSITION_THRESHOLD, kept, shortcomings
from pocketdit.errors import UserError


@dataclass(frozen=True)
class Constants:
    """``GenEval`` says what each is; the defaults are the benchmark's."""

    threshold: float = 0.3
    counting_threshold: float = 0.9
    most_of_a_class: int = 16
    max_overlap: float = 1.0
    position_threshold: float = POSITION_THRESHOLD


_PUBLISHED = Constants()


class GenEval:
    """Share of correct pictures for each kind of prompt ("tag"), and "overall", the mean of these shares.

    ``prompts``: the name of a prompt set whose metadata is in the benchmark's form (``load_prompts``).
    ``detector`` and ``colors``: the judges. The rest are the benchmark's constants; with others, the result's name
    says so.

    threshold, counting_threshold: a detection counts where its score is above; the latter where the tag is
    "counting". most_of_a_class: detections kept per class, the highest scores first. max_overlap: of boxes of one
    class, as intersection over union; 1 keeps all. position_threshold: of the boxes' sides, taken off their offset.
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

    def score(self, images: ImageSet) -> Result:
        """A ``Score`` per tag, in the order of the prompts, and "overall".

        A prompt's value is the share of its pictures that are correct; a tag's is the share over all its pictures.
        "overall" weighs tags equally and is therefore not the mean of its ``by_prompt``.

        Raises:
            UserError: a prompt has no picture or no metadata of the benchmark's form, or a picture does not decode.
        """
        correct: dict[str, dict[str, list[bool]]] = {}
        for prompt in images.prompts.prompts:
            paths = images.images.get(prompt.id, ())
            if not paths:
                raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no picture; run the evaluation again")
            if "tag" not in prompt.metadata or "include" not in prompt.metadata:
                raise UserError(f"prompt {prompt.id} says no tag or include: {self.prompts} is no GenEval prompt set")
            verdicts = [not self.shortcomings(open_image(path), prompt.metadata) for path in paths]
            correct.setdefault(prompt.metadata["tag"], {})[prompt.id] = verdicts
        tags = {tag: _score(verdicts) for tag, verdicts in correct.items()}
        if not tags:
            raise UserError(f"prompt set {self.prompts} is empty")
        overall = Score(
            value=sum(score.value for score in tags.values()) / len(tags),
            samples=sum(score.samples for score in tags.values()),
            by_prompt={name: value for score in tags.values() for name, value in score.by_prompt.items()},
        )
        return Result(self._name(), {"overall": overall, **tags}, self._protocol(images))

    def shortcomings(self, picture: ImageArray, metadata: Mapping[str, Any]) -> list[str]:
        """Why a picture does not show what ``metadata`` asks for; nothing where it is correct."""
        constants = self.constants
        threshold = constants.counting_threshold if metadata["tag"] == "counting" else constants.threshold
        found = kept(self.detector.detect(picture), threshold, constants.most_of_a_class, constants.max_overlap)
        read_colors = partial(self.colors.colors, picture)
        return shortcomings(found, metadata, read_colors, constants.position_threshold)

    def _name(self) -> str:
        others = [] if self.constants == _PUBLISHED else [Backend("other constants", "")]
        return result_name("geneval", self.detector.backend, self.colors.backend, *others)

    def _protocol(self, images: ImageSet) -> dict[str, Any]:
        return {
            "benchmark": "geneval",
            "prompts": images.prompts.name,
            "prompt_count": len(images.prompts.prompts),
            "images_each": images.prompts.images_each,
            "detector": asdict(self.detector.backend),
            "color_reader": asdict(self.colors.backend),
            "colors": list(COLORS),
            "overall": "mean of the tags' shares of correct pictures",
            **asdict(self.constants),
        }


def _score(verdicts: Mapping[str, list[bool]]) -> Score:
    every = [verdict for of_prompt in verdicts.values() for verdict in of_prompt]
    shares = {name: sum(of_prompt) / len(of_prompt) for name, of_prompt in verdicts.items()}
    return Score(sum(every) / len(every), len(every), shares)
