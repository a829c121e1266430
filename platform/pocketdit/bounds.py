"""Bounds of numbers in a configuration, as part of their types: ``Annotated[int, Between(1, 100)]``."""

from dataclasses import dataclass
from typing import Annotated

LARGE = 1_000_000_000


@dataclass(frozen=True)
class Between:
    """The smallest and the largest value that a setting can sensibly have."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low:,.15g} to {self.high:,.15g}"

    def contains(self, value: float) -> bool:
        """Return whether a value is within the bounds."""
        return self.low <= value <= self.high


Count = Annotated[int, Between(1, LARGE)]
"""A number of things of which there is at least one."""
CountOrZero = Annotated[int, Between(0, LARGE)]
"""A number of things of which there may be none."""
Fraction = Annotated[float, Between(0, 1)]
"""A probability or a share."""
Weight = Annotated[float, Between(0, 1e6)]
"""The weight of a loss."""
TimeShift = Annotated[float, Between(1e-3, 1e3)]
"""The shift of times toward noise, a factor."""
TimeSpread = Annotated[float, Between(1e-3, 100)]
"""The standard deviation of times before the logistic function."""
