"""Scales, which place a parameter's values on an axis, either as evenly spaced categories or as numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sweeps.dimensions import Scalar
from sweeps.plots.view import StudyView, format_value

MAX_CATEGORIES = 8  # up to this many distinct integers are treated as categories
LOG_RATIO = 30  # positive numbers that span at least this ratio have a logarithmic scale
MISSING = -0.12  # axis position for trials that lack the parameter


@dataclass(frozen=True)
class Scale:
    """A categorical or numeric scale.

    Attributes:
        categories: Distinct values in order; empty for a numeric scale.
        low: Smallest number.
        high: Largest number.
        logarithmic: Whether a numeric scale is logarithmic.
    """

    categories: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @classmethod
    def of_numbers(cls, values: Iterable[float | None]) -> Self:
        """Build a linear scale over the known values."""
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
        if self.categories:
            return float(self.categories.index(value))
        assert isinstance(value, int | float)
        return float(value)

    def height(self, value: Scalar) -> float:
        """Return a value's relative position on the scale, from 0 to 1."""
        position, low, high = self.position(value), self.low, self.high
        if self.categories:
            low, high = 0.0, len(self.categories) - 1.0
        elif self.logarithmic:
            position, low, high = math.log(position), math.log(low), math.log(high)
        return (position - low) / (high - low) if high > low else 0.5

    def marks(self) -> list[tuple[float, str]]:
        """Return the height and label of each tick mark on an axis normalized to [0, 1]."""
        if self.categories:
            return [(self.height(value), format_value(value)) for value in self.categories]
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        return [(self.height(value), format_value(value)) for value in (self.low, middle, self.high)]


def param_scale(view: StudyView, name: str) -> Scale:
    """Choose the scale of a parameter based on its values in the trials."""
    values = {p.params[name] for p in view.points if name in p.params}
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    few_integers = len(values) <= MAX_CATEGORIES and all(isinstance(v, int) for v in values)
    if len(numbers) < len(values) or few_integers:
        others = sorted((v for v in values if isinstance(v, str | bool | None)), key=str)
        return Scale((*sorted(numbers), *others))
    low, high = float(min(numbers)), float(max(numbers))
    return Scale((), low, high, low > 0 and high / low >= LOG_RATIO)
