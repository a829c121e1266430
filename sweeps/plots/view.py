"""What the plots of a study show, as plain data: objectives with names and units, trials with parameters and values."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeps.dimensions import Scalar


@dataclass(frozen=True)
class ObjectiveAxis:
    """An objective as an axis of a plot."""

    name: str
    unit: str = ""
    minimize: bool = True

    @property
    def short_label(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        return f"{self.short_label}, {'lower' if self.minimize else 'higher'} is better"


@dataclass(frozen=True)
class TrialPoint:
    """A trial as a point of a plot.

    Attributes:
        values: Objectives in order; None for unknown ones.
        params: Parameters by short name. A parameter that the trial does not have is missing.
        violations: Why the trial is infeasible: the constraints that it violates, or another reason.
        spread: Standard deviation over seeds of each objective; empty for a single seed.
        rank: Position on the front, counted from 1 along the first objective; 0 if another trial dominates it.
        baseline: Whether it is one of the study's baselines.
    """

    number: int
    values: tuple[float | None, ...]
    params: dict[str, Scalar]
    violations: tuple[str, ...] = ()
    spread: tuple[float, ...] = ()
    rank: int = 0
    baseline: bool = False

    @property
    def is_result(self) -> bool:
        """Whether the trial is feasible and all its objectives are known."""
        return not self.violations and None not in self.values

    def value(self, objective: int) -> float:
        """Return an objective that is known. Raises ``ValueError`` for one that is not."""
        value = self.values[objective]
        if value is None:
            raise ValueError(f"objective {objective} of trial {self.number} is unknown")
        return value

    def describe(self) -> str:
        return ", ".join(f"{name} {format_value(value)}" for name, value in self.params.items())


@dataclass(frozen=True)
class StudyView:
    """The trials of a study that can be compared with each other, and those that are infeasible.

    Attributes:
        param_names: Short names of all parameters that any trial has.
    """

    title: str
    axes: tuple[ObjectiveAxis, ...]
    points: tuple[TrialPoint, ...]
    param_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = dict.fromkeys(name for point in self.points for name in point.params)
        object.__setattr__(self, "param_names", tuple(names))

    @property
    def best_label(self) -> str:
        """Label of the trials that have a rank."""
        return "front" if len(self.axes) > 1 else "best"

    @property
    def results(self) -> tuple[TrialPoint, ...]:
        return tuple(point for point in self.points if point.is_result)

    @property
    def infeasible(self) -> tuple[TrialPoint, ...]:
        return tuple(point for point in self.points if point.violations)

    @property
    def front(self) -> tuple[TrialPoint, ...]:
        return tuple(sorted((p for p in self.points if p.rank), key=lambda p: p.rank))

    def value_labels(self, point: TrialPoint) -> list[str]:
        """Format each objective of a trial with its spread over seeds, or as a dash if it is unknown."""
        spreads = point.spread or (0.0,) * len(self.axes)
        return [_value_label(value, spread) for value, spread in zip(point.values, spreads, strict=True)]


@dataclass(frozen=True)
class StudyViews:
    """Two views of a study.

    Attributes:
        search: Every trial at the first budget, where all of them are comparable.
        final: The trials with the longest budget and the most seeds, averaged over their seeds. Equal to ``search``
            if no trial was promoted.
    """

    search: StudyView
    final: StudyView


def _value_label(value: float | None, spread: float) -> str:
    if value is None:
        return "-"
    return f"{format_value(value)} ± {format_value(spread)}" if spread else format_value(value)


def format_value(value: Scalar) -> str:
    """Format a value compactly: floats with five significant digits, booleans as "yes" or "no"."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.5g}"
        case _:
            return str(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten dotted keys to the last parts that distinguish them: ``backbone.levels.0.depth`` becomes "depth"."""
    parts = {key: key.split(".") for key in keys}

    def name(key: str, count: int) -> str:
        return " ".join(parts[key][-count:]).replace("_", " ")

    names = {}
    for key in keys:
        counts = range(1, len(parts[key]) + 1)
        others = [other for other in keys if other != key]
        unique = (c for c in counts if all(name(other, c) != name(key, c) for other in others))
        names[key] = name(key, next(unique, len(parts[key])))
    return names
