"""Counts what text encoders do not see: truncated captions, captions without tokens, and unknown symbols and words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocketdit.counts import counted
from pocketdit.encoders.contract import CaptionReader, TextEncoder
from pocketdit.names import one_line

_EXAMPLES = 3


@dataclass
class _Counts:
    """Counts for one encoder.

    Attributes:
        cut: Number of captions with more tokens than the encoder sees.
        empty: Number of captions in which the encoder sees no token.
        with_unknown: Number of captions with parts that have no token.
        unknown: For each part that has no token, the number of captions that contain it.
        words: For each word, the number of captions that contain it. Empty if the encoder knows words from
            pre-training.
    """

    cut: int = 0
    empty: int = 0
    with_unknown: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)


class CaptionCoverage:
    """Counts captions with parts that text encoders do not see. Encoders that cannot report this are ignored.

    Args:
        encoders: The text encoders.

    Attributes:
        captions: Number of captions that were added.
    """

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        self._readers = [encoder for encoder in encoders if isinstance(encoder, CaptionReader)]
        self._counts = [_Counts() for _ in self._readers]
        self.captions = 0

    def add(self, captions: Sequence[str]) -> None:
        """Add captions to the counts."""
        self.captions += len(captions)
        for reader, counts in zip(self._readers, self._counts, strict=True):
            for reading in reader.read(captions):
                counts.cut += 0 < reading.seen < reading.tokens
                counts.empty += reading.seen == 0
                counts.with_unknown += bool(reading.unknown)
                counts.unknown.update(reading.unknown)
                counts.words.update(reading.words)

    def lines(self, split: str, training: "CaptionCoverage | None" = None) -> list[str]:
        """Return one line for each encoder that does not see everything.

        Args:
            split: Name of the split.
            training: Coverage of all training captions. If None, words that are missing from them are not counted.
        """
        lines = []
        for i, (reader, counts) in enumerate(zip(self._readers, self._counts, strict=True)):
            parts = []
            if counts.cut:
                parts.append(f"{counts.cut} truncated to {reader.max_tokens} tokens")
            if counts.empty:
                parts.append(f"{counts.empty} without any token")
            if counts.with_unknown:
                parts.append(f"{counts.with_unknown} with parts that have no token ({_examples(counts.unknown)})")
            known = counts.words if training is None else training._counts[i].words
            if unseen := Counter({word: n for word, n in counts.words.items() if word not in known}):
                parts.append(f"{counted(len(unseen), 'word')} missing from the training captions ({_examples(unseen)})")
            if parts:
                name = type(reader).__name__
                captions = counted(self.captions, f"{split} caption")
                lines.append(f"{name} does not see everything in {captions}: {', '.join(parts)}")
        return lines


def coverage_lines(coverages: Mapping[str, CaptionCoverage], *, complete: bool) -> list[str]:
    """Return the lines of all splits, in the order of the splits.

    Args:
        coverages: Mapping from the name of each split to its counts.
        complete: Whether all training captions were counted. If not, words that are missing from them are not counted.
    """
    training = coverages.get("train") if complete else None
    return [line for split, coverage in coverages.items() for line in coverage.lines(split, training)]


def _examples(counts: Counter[str]) -> str:
    shown = ", ".join(one_line(text) for text, _ in counts.most_common(_EXAMPLES))
    return f"{shown}, ..." if len(counts) > _EXAMPLES else shown
