"""Reports what a build writes and leaves out."""

from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from datamodules.shards.skips import SkipLog, SkippedImage
from datamodules.shards.sources import path_text


@dataclass(frozen=True)
class BuildReport:
    """The result of a build.

    Attributes:
        path: Folder of the data set.
        train: Number of training samples.
        validation: Number of validation samples.
        skips: Images that could not be used or that a filter left out.
        notes: Further lines about what was left out or changed, and about possible mistakes.
    """

    path: Path
    train: int
    validation: int
    skips: SkipLog = field(default_factory=SkipLog)
    notes: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> list[SkippedImage]:
        """The first skipped images."""
        return self.skips.entries

    def __str__(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        counts = ", ".join(f"{count} {rule}" for rule, count in self.skips.by_rule.most_common())
        if len(self.skips.by_rule) > 1:
            lines.append(f"left out: {counts}")
        skipped = f", {self.skips.total} skipped" if self.skips.total else ""
        summary = f"{path_text(self.path)}: {self.train} train, {self.validation} validation samples{skipped}"
        return "\n".join([*self.skips.lines(), *lines, summary])


def progress_bar(
    total: int | None, progress: bool, unit: str = " samples", done: int = 0, doing: str = "building"
) -> "tqdm[None]":
    """Return a progress bar, which shows nothing if ``progress`` is false.

    Args:
        total: Number of samples or bytes, if known.
        progress: Whether to show the bar.
        unit: What is counted: " samples", or "B" for bytes.
        done: Number of samples or bytes that are already done.
        doing: The activity whose progress the bar shows.
    """
    return tqdm(
        total=total,
        desc=doing,
        unit=unit,
        unit_scale=unit == "B",
        smoothing=0.05,
        disable=not progress,
        initial=done,
    )
