"""Finds the objects of a prompt among the detections in an image."""

from collections.abc import Mapping, Sequence

from evaluation.contract import Detection, Detector, ImageArray, OpenDetector
from evaluation.optional import ClassList
from pocketdit.errors import ConfigError

# UniDet detects all of these as "person".
PERSON_ALIASES: Mapping[str, tuple[str, ...]] = {name: ("person",) for name in ("boy", "girl", "man", "woman")}


def check_threshold(threshold: float) -> None:
    """Check the minimum score of detections.

    Raises:
        ConfigError: The threshold is outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold must be a detection score between 0 and 1, not {threshold}")


def detect(detector: Detector | OpenDetector, image: ImageArray, names: Sequence[str]) -> list[Detection]:
    """Return a detector's detections in an image. A detector with an open vocabulary looks only for ``names``."""
    if isinstance(detector, OpenDetector):
        return detector.detect_named(image, names)
    return detector.detect(image)


def classes_of(detector: Detector | OpenDetector) -> tuple[str, ...] | None:
    """Return the classes of a detector, or None if its vocabulary is open or unknown."""
    return detector.classes if isinstance(detector, ClassList) else None


def find_object(
    detections: Sequence[Detection], phrase: str, threshold: float, aliases: Mapping[str, Sequence[str]]
) -> list[Detection]:
    """Return the detections of the object that ``phrase`` names, sorted by descending score.

    Args:
        detections: All detections of an image.
        phrase: Name of the object, without a determiner.
        threshold: Minimum score.
        aliases: Mapping from object names to additional classes that match (see ``matching_classes``).
    """
    names = matching_classes(phrase, aliases)
    matches = [d for d in detections if d.score >= threshold and d.label.lower() in names]
    return sorted(matches, key=lambda detection: -detection.score)


def matching_classes(phrase: str, aliases: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names, in lower case, of all classes that match the object that ``phrase`` names.

    A class matches if its name is the phrase or the last words of the phrase, in the singular or as written: "coat
    rack" and "rack" match "brown coat rack", and "apple" matches "green apples". The aliases of these words also match.
    """
    words = phrase.lower().split()
    endings = {" ".join(words[i:]) for i in range(len(words))}
    endings |= {ending.removesuffix(plural) for ending in endings for plural in ("s", "es") if ending.endswith(plural)}
    return endings | {alias.lower() for ending in endings for alias in aliases.get(ending, ())}
