"""The kinds of dimensions in a search space."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Literal

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class IntRange:
    """Integers from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Distance between values; must be 1 if ``log`` is true.
        log: Search on a logarithmic scale.
        keys: Keys of the experiment that are set to the value; by default, the key with the dimension's name.
    """

    kind: Literal["int"]
    low: int
    high: int
    step: int = 1
    log: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_range(self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise ValueError("step must be at least 1, and exactly 1 if log is true")


@dataclass(frozen=True)
class FloatRange:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Distance between values; None for a continuous range.
        log: Search on a logarithmic scale; cannot be combined with ``step``.
        keys: Keys of the experiment that are set to the value; by default, the key with the dimension's name.
    """

    kind: Literal["float"]
    low: float
    high: float
    step: float | None = None
    log: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_range(self.low, self.high, self.log)
        if self.step is not None and (self.step <= 0 or self.log):
            raise ValueError("step must be positive and cannot be combined with log")


@dataclass(frozen=True)
class Values:
    """A list of alternative values.

    Attributes:
        values: The alternatives.
        keys: Keys of the experiment that are set to the value; by default, the key with the dimension's name.
    """

    kind: Literal["values"]
    values: tuple[Scalar, ...]
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_alternatives(self.values)


@dataclass(frozen=True)
class Options:
    """Alternative groups of settings, each with a name.

    Attributes:
        options: For each named option, the keys of the experiment that it sets, and their values. A string ``$name`` in
            a value refers to the dimension ``name`` and is replaced by the trial's value for that dimension. Only
            trials whose option refers to such a dimension have a value for it.
    """

    kind: Literal["options"]
    options: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        _require_alternatives(self.options)


Dimension = IntRange | FloatRange | Values | Options


def _require_range(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low must be less than high, but low is {low} and high is {high}")
    if log and low <= 0:
        raise ValueError("low must be positive if log is true")


def _require_alternatives(values: Sized) -> None:
    if len(values) < 2:
        raise ValueError("list at least two alternatives")
