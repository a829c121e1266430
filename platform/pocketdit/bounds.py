"""Bounds on the numbers in a configuration, as part of their types: ``Annotated[int, Between(1, 100)]``."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

LARGE = 1_000_000_000
MAX_SIDE = 65_536  # pixels


@dataclass(frozen=True)
class Between:
    """The smallest and the largest sensible value of a setting."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low:,.15g} to {self.high:,.15g}"

    def contains(self, value: float) -> bool:
        """Return whether a value is within the bounds."""
        return self.low <= value <= self.high


def check_bounds(settings: Any) -> None:
    """Check the fields of a dataclass against the bounds in their types.

    Dataclasses call this in ``__post_init__``, so that objects created in Python are also checked.

    Raises:
        ValueError: A number is out of bounds. The message starts with the name of the field.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        for bounds, number in _bounded(hints[field.name], value):
            if not bounds.contains(number):
                raise ValueError(f"{field.name} must be {bounds}, not {number!r}")


def _bounded(annotation: Any, value: Any) -> Iterator[tuple[Between, float]]:
    """Yield each number in a value together with its bounds from the type annotation."""
    if get_origin(annotation) is Annotated:
        if isinstance(value, int | float):
            yield from ((item, value) for item in annotation.__metadata__ if isinstance(item, Between))
    elif isinstance(value, tuple):
        args = get_args(annotation)
        parts = args[:1] * len(value) if args[1:] == (...,) else args
        for part, item in zip(parts, value, strict=False):
            yield from _bounded(part, item)
    else:
        for member in get_args(annotation):
            yield from _bounded(member, value)


Count = Annotated[int, Between(1, LARGE)]
"""A count of at least 1."""
CountOrZero = Annotated[int, Between(0, LARGE)]
"""A count that may be 0."""
Fraction = Annotated[float, Between(0, 1)]
"""A probability or a fraction."""
Weight = Annotated[float, Between(0, 1e6)]
"""The weight of a loss."""
TimeShift = Annotated[float, Between(1e-3, 1e3)]
"""The factor by which times are shifted toward noise."""
TimeSpread = Annotated[float, Between(1e-3, 100)]
"""The standard deviation of normally distributed numbers that the logistic function maps to times."""
Steps = Annotated[int, Between(1, 10_000)]
"""The number of sampling steps."""
Guidance = Annotated[float, Between(0, 1000)]
"""The scale of classifier-free guidance."""
Side = Annotated[int, Between(1, MAX_SIDE)]
"""The length of a side of an image in pixels."""
Error = Annotated[float, Between(0, 1e9)]
"""The maximum accepted difference between the outputs of an exported network and of the original network."""
Tokens = Annotated[int, Between(1, 100_000)]
"""The maximum number of tokens in a caption or prompt."""
VectorSize = Annotated[int, Between(1, 65_536)]
"""The number of elements in an embedding or another vector."""
