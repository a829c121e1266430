"""Matches a detector's classes to the objects that a prompt names."""

from collections.abc import Mapping, Sequence

from evaluation.contract import Detection

# UniDet detects all of these as "person".
PERSON_ALIASES: Mapping[str, tuple[str, ...]] = {name: ("person",) for name in ("boy", "girl", "man", "woman")}


def find_object(
    detections: Sequence[Detection], phrase: str, threshold: float, aliases: Mapping[str, Sequence[str]]
) -> list[Detection]:
    """Return the detections of the object that ``phrase`` names, sorted by descending score.

    A class matches if it equals the phrase or one of its endings, with or without a plural ending: "coat rack" and
    "rack" match "brown coat rack", and "apple" matches "green apples".

    Args:
        detections: All detections of an image.
        phrase: Name of the object, without a determiner.
        threshold: Minimum score.
        aliases: Additional classes that match, by object name.
    """
    names = _matching_classes(phrase, aliases)
    matches = [d for d in detections if d.score >= threshold and d.label.lower() in names]
    return sorted(matches, key=lambda detection: -detection.score)


def _matching_classes(phrase: str, aliases: Mapping[str, Sequence[str]]) -> set[str]:
    words = phrase.lower().split()
    endings = {" ".join(words[i:]) for i in range(len(words))}
    endings |= {ending.removesuffix(plural) for ending in endings for plural in ("s", "es") if ending.endswith(plural)}
    return endings | {alias.lower() for ending in endings for alias in aliases.get(ending, ())}
