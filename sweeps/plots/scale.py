"""Where the values of a parameter are placed on an axis: alternatives side by side, numbers by size."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sweeps.dimensions import Scalar
from sweeps.plots.view import StudyView, format_value

MAX_CATEGORIES = 8  # up to this many distinct integers are placed side by side
LOG_RATIO = 30  # positive numbers that span at least this ratio are plotted on a logarithmic scale
MISSING = -0.12  # height for a trial that does not have the parameter


@dataclass(frozen=True)
class Scale:
    """A scale of categories or of numbers.

    Attributes:
        categories: Distinct values in order; empty for a scale of numbers.
        low: Smallest number.
        high: Largest number.
    """

    categories: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @classmethod
    def of_numbers(cls, values: Iterable[float | None]) -> Self:
        """Build a linear scale over the values that are known."""
        known = [value for value in values if value is not None]
        return cls((), min(known), max(known)) if known else cls()

    @property
    def ticks(self) -> list[int]:
        """Positions of the categories."""
        return list(range(len(self.categories)))

    @property
    def labels(self) -> list[str]:
        """Labels of the categories."""
        return [format_value(value) for value in self.categories]

    def position(self, value: Scalar) -> float:
        """Return the coordinate of a value: the number itself, or the index of its category."""
        return float(self.categories.index(value) if self.categories else value)  # type: ignore[arg-type]

    def height(self, value: Scalar) -> float:
        """Return the position relative to the scale's range, from 0 to 1, after any logarithm."""
        position, low, high = self.position(value), self.low, self.high
        if self.categories:
            low, high = 0.0, len(self.categories) - 1.0
        elif self.logarithmic:
            position, low, high = math.log(position), math.log(low), math.log(high)
        return (position - low) / (high - low) if high > low else 0.5

    def marks(self) -> list[tuple[float, str]]:
        """Return heights with labels for an axis that is normalized to [0, 1]."""
        if self.categories:
            return [(self.height(value), format_value(value)) for value in self.categories]
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        return [(self.height(value), format_value(value)) for value in (self.low, middle, self.high)]


def param_scale(view: StudyView, name: str) -> Scale:
    """Choose the scale of a parameter from the values that the trials have."""
    values = {p.params[name] for p in view.points if name in p.params}
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    few_integers = len(values) <= MAX_CATEGORIES and all(isinstance(v, int) for v in values)
    if len(numbers) < len(values) or few_integers:
        words = sorted((v for v in values if isinstance(v, str | bool | None)), key=str)
        return Scale((*sorted(v for v in values if v not in words), *words))  # type: ignore[type-var]
    low, high = min(numbers), max(numbers)
    return Scale((), low, high, low > 0 and high / low >= LOG_RATIO)
