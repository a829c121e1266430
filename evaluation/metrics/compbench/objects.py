"""Which of a detector's finds are the object that a prompt names."""

from collections.abc import Mapping, Sequence

from evaluation.contract import Detection

# UniDet's classes know these as persons.
PERSONS: Mapping[str, tuple[str, ...]] = {name: ("person",) for name in ("boy", "girl", "man", "woman")}


def found(
    detections: Sequence[Detection], phrase: str, threshold: float, aliases: Mapping[str, Sequence[str]]
) -> list[Detection]:
    """Detections of what ``phrase`` names with a score of at least ``threshold``, best first.

    A class fits the phrase itself or how it ends, so "brown coat rack" is found by a "coat rack" or a "rack", and
    "green apples" by an "apple"; ``aliases`` adds classes to a name.
    """
    names = _names(phrase, aliases)
    fitting = [d for d in detections if d.score >= threshold and d.label.lower() in names]
    return sorted(fitting, key=lambda detection: -detection.score)


def _names(phrase: str, aliases: Mapping[str, Sequence[str]]) -> set[str]:
    words = phrase.lower().split()
    ends = {" ".join(words[i:]) for i in range(len(words))}
    ends |= {end.removesuffix(plural) for end in ends for plural in ("s", "es") if end.endswith(plural)}
    return ends | {alias.lower() for end in ends for alias in aliases.get(end, ())}
