"""Counts and describes the images that a build leaves out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

UNUSABLE = "not usable"  # the rule of an image that was not left out by a filter
_MAX_ENTRIES = 10_000
_MAX_NAMES, _MAX_LINES = 5, 20  # limits for the skipped images in a report


@dataclass(frozen=True)
class SkippedImage:
    """A skipped image, folder, or table row.

    Attributes:
        id: ID of the image, or name of the folder or row.
        reason: Reason why it was skipped.
        rule: The filter that excluded it, such as "--min-side 256", or the kind of problem.
    """

    id: str
    reason: str
    rule: str = UNUSABLE

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


@dataclass
class SkipLog:
    """Counts what a build skips. The memory use does not grow with the size of the source.

    Attributes:
        entries: The first ``_MAX_ENTRIES`` skipped images, folders, and table rows.
        total: Number of skipped images, folders, and table rows.
        by_rule: Number of skipped images, folders, and table rows per rule.
    """

    entries: list[SkippedImage] = field(default_factory=list)
    total: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    _names: dict[str, list[str]] = field(default_factory=dict, init=False)
    _by_reason: Counter[str] = field(default_factory=Counter, init=False)

    def add(self, skipped: SkippedImage) -> None:
        """Count a skipped image."""
        self.total += 1
        self.by_rule[skipped.rule] += 1
        if len(self.entries) < _MAX_ENTRIES:
            self.entries.append(skipped)
        if skipped.reason in self._names or len(self._names) < _MAX_ENTRIES:
            names = self._names.setdefault(skipped.reason, [])
            if len(names) < _MAX_NAMES:
                names.append(skipped.id)
            self._by_reason[skipped.reason] += 1

    def extend(self, skipped: Iterable[SkippedImage]) -> None:
        """Count several skipped images."""
        for entry in skipped:
            self.add(entry)

    def lines(self) -> list[str]:
        """Describe what was skipped in a few lines. Many entries with the same reason share a line."""
        lines = []
        for reason, names in self._names.items():
            count = self._by_reason[reason]
            if count <= _MAX_NAMES:
                lines += [f"skipped {name}: {reason}" for name in names]
            else:
                lines.append(f"skipped {count} ({', '.join(names)}, ...): {reason}")
        more = len(lines) - _MAX_LINES
        return lines if more <= 0 else [*lines[:_MAX_LINES], f"{more} more lines about skipped files are not shown"]
