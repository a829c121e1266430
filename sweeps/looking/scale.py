"""Where a choice's values stand on an axis: named values side by side, numbers by size."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sweeps.looking.shown import Choice, Shown, show

FEW = 8  # so many different whole numbers still stand side by side
NOT_CHOSEN = -0.12  # height of the line through a choice that a trial did not have to make
WIDE = 30  # numbers whose largest is so many times the smallest are drawn by their logarithm


@dataclass(frozen=True)
class Scale:
    """``values``: the different ones in order, where they stand side by side; empty for a scale of numbers from
    ``low`` to ``high``."""

    values: tuple[Choice, ...] = ()
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @classmethod
    def of_numbers(cls, values: Iterable[float | None]) -> Self:
        """From the least to the greatest of those that are known."""
        known = [value for value in values if value is not None]
        return cls((), min(known), max(known)) if known else cls()

    @property
    def ticks(self) -> list[int]:
        return list(range(len(self.values)))

    @property
    def labels(self) -> list[str]:
        return [show(value) for value in self.values]

    def place(self, value: Choice) -> float:
        """On an axis with these ``ticks`` (or of numbers)."""
        return float(self.values.index(value) if self.values else value)  # type: ignore[arg-type]

    def height(self, value: Choice) -> float:
        """The same from 0 to 1, logarithms taken."""
        place, low, high = self.place(value), self.low, self.high
        if self.values:
            low, high = 0.0, len(self.values) - 1.0
        elif self.logarithmic:
            place, low, high = math.log(place), math.log(low), math.log(high)
        return (place - low) / (high - low) if high > low else 0.5

    def marks(self) -> list[tuple[float, str]]:
        """Heights with labels, for an axis that has none of its own."""
        if self.values:
            return [(self.height(value), show(value)) for value in self.values]
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        return [(self.height(value), show(value)) for value in (self.low, middle, self.high)]


def scale_of(shown: Shown, name: str) -> Scale:
    """The scale of a choice, from the values that trials have."""
    values = {p.choices[name] for p in shown.points if name in p.choices}
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or (len(values) <= FEW and all(isinstance(v, int) for v in values)):
        words = sorted((v for v in values if isinstance(v, str | bool | None)), key=str)
        return Scale((*sorted(v for v in values if v not in words), *words))  # type: ignore[type-var]
    low, high = min(numbers), max(numbers)
    return Scale((), low, high, low > 0 and high / low >= WIDE)
