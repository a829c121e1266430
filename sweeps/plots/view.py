"""The contents of a study's plots as plain data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sweeps.dimensions import Scalar


@dataclass(frozen=True)
class ObjectiveAxis:
    """An objective as an axis of a plot."""

    name: str
    unit: str = ""
    minimize: bool = True

    @property
    def short_label(self) -> str:
        """Name and unit of the objective."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        """Name and unit of the objective, and whether lower or higher is better."""
        return f"{self.short_label}, {'lower' if self.minimize else 'higher'} is better"


@dataclass(frozen=True)
class TrialPoint:
    """A trial as a point in a plot.

    Attributes:
        number: Number of the trial.
        values: Values of the objectives, in order; None where a value is unknown.
        params: The trial's parameters, keyed by short name.
        violations: Violated constraints, or another reason why the trial is infeasible; empty if it is feasible.
        spread: Standard deviation of each objective over the seeds; empty for a single seed.
        rank: Position on the front, counted from 1 along the first objective; 0 if the trial is not on the front.
        baseline: Whether the trial is one of the study's baselines.
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
        """Return the value of an objective. Raises ``ValueError`` if it is unknown."""
        value = self.values[objective]
        if value is None:
            raise ValueError(f"objective {objective} of trial {self.number} is unknown")
        return value

    def describe(self) -> str:
        """Format the parameters on one line."""
        return ", ".join(f"{name} {format_value(value)}" for name, value in self.params.items())


@dataclass(frozen=True)
class StudyView:
    """The trials of a study that are comparable with each other, and the infeasible trials.

    Attributes:
        title: Title of the plots.
        axes: The objectives, in order.
        points: The trials.
        param_names: Short names of all parameters.
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
        """Label of the trials with a rank."""
        return "front" if len(self.axes) > 1 else "best"

    @property
    def results(self) -> tuple[TrialPoint, ...]:
        """The feasible trials whose objectives are all known."""
        return tuple(point for point in self.points if point.is_result)

    @property
    def infeasible(self) -> tuple[TrialPoint, ...]:
        """The infeasible trials."""
        return tuple(point for point in self.points if point.violations)

    @property
    def front(self) -> tuple[TrialPoint, ...]:
        """The trials on the front, sorted by rank."""
        return tuple(sorted((p for p in self.points if p.rank), key=lambda p: p.rank))

    def with_text(self, escape: Callable[[str], str]) -> "StudyView":
        """Return a copy in which every string, such as a name or a value, is replaced with its escaped form."""
        return StudyView(
            escape(self.title),
            tuple(replace(axis, name=escape(axis.name), unit=escape(axis.unit)) for axis in self.axes),
            tuple(
                replace(
                    point,
                    params={
                        escape(name): escape(value) if isinstance(value, str) else value
                        for name, value in point.params.items()
                    },
                    violations=tuple(escape(text) for text in point.violations),
                )
                for point in self.points
            ),
        )

    def value_labels(self, point: TrialPoint) -> list[str]:
        """Format a trial's objectives with their spread over the seeds. An unknown value becomes a dash."""
        spreads = point.spread or (0.0,) * len(self.axes)
        return [_value_label(value, spread) for value, spread in zip(point.values, spreads, strict=True)]


@dataclass(frozen=True)
class StudyViews:
    """Two views of a study.

    Attributes:
        search: All trials at the first budget, where they are comparable.
        final: The trials with the longest budget and the most seeds, averaged over the seeds. Equal to ``search`` if no
            trial was promoted.
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
    """Shorten dotted keys to their shortest unique ends, such as "depth" for ``backbone.levels.0.depth``."""
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
