"""The common part of T2I-CompBench's scorers that use an object detector."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from evaluation.contract import Backend, Detection, Detector
from evaluation.metrics.compbench.objects import PERSON_ALIASES, find_object
from pocketdit.errors import ConfigError


class DetectionScorer:
    """Base class of scorers that look for the objects of a prompt among the detections of an image.

    Args:
        detector: Detects objects; the published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
        threshold: Minimum score of a detection.
        aliases: Additional classes of the detector by object name, such as {"phone": ["cell phone"]}; None uses
            ``PERSON_ALIASES``.

    Attributes:
        constants: First entries of ``protocol``, defined by the subclass.

    Raises:
        ConfigError: ``threshold`` is outside [0, 1].
    """

    constants: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        detector: Detector,
        threshold: float = 0.5,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold must be a detection score between 0 and 1, not {threshold}")
        self.detector = detector
        self.threshold = threshold
        self.aliases = PERSON_ALIASES if aliases is None else aliases
        self.backends: tuple[Backend, ...] = (detector.backend,)
        self.protocol: Mapping[str, Any] = {
            **self.constants,
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def find(self, detections: Sequence[Detection], phrase: str) -> list[Detection]:
        """Return the detections of the object that ``phrase`` names, sorted by descending score."""
        return find_object(detections, phrase, self.threshold, self.aliases)
