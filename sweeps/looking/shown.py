"""What a study's pictures show, as plain data: axes with names and units, trials with choices and values."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Choice = bool | int | float | str | None


@dataclass(frozen=True)
class Axis:
    """An objective. ``unit`` is empty where there is none."""

    name: str
    unit: str = ""
    minimise: bool = True

    @property
    def short(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        return f"{self.short}, {'lower' if self.minimise else 'higher'} is better"


@dataclass(frozen=True)
class Point:
    """A trial. ``values``: of every objective, None where it has none. ``broken``: constraints that it breaks.

    ``choices``: what was searched over, by plain name; a choice that the trial did not have to make is missing.
    ``spread``: standard deviation over seeds, of every objective, where it ran with several. ``rank``: its place on
    the front, counted from 1 along the first objective; 0 where another trial is better. ``baseline``: there for
    comparison.
    """

    number: int
    values: tuple[float | None, ...]
    choices: dict[str, Choice]
    broken: tuple[str, ...] = ()
    spread: tuple[float, ...] = ()
    rank: int = 0
    baseline: bool = False

    @property
    def complete(self) -> bool:
        """Whether it stands for a result: every objective known, no constraint broken."""
        return not self.broken and None not in self.values

    def at(self, objective: int) -> float:
        """The value of an objective that is known."""
        value = self.values[objective]
        if value is None:
            raise ValueError(f"trial {self.number} has no value of objective {objective}")
        return value

    def describe(self) -> str:
        return ", ".join(f"{name} {show(value)}" for name, value in self.choices.items())


@dataclass(frozen=True)
class Shown:
    """A study's trials that have anything to show."""

    title: str
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = dict.fromkeys(name for point in self.points for name in point.choices)
        object.__setattr__(self, "names", tuple(found))

    @property
    def best(self) -> str:
        """What the trials with a rank are called."""
        return "front" if len(self.axes) > 1 else "best"

    def figures(self, point: Point) -> list[str]:
        """A trial's value of every objective, with its spread over seeds; a dash where it has none."""
        spreads = point.spread or (0.0,) * len(self.axes)
        return [
            "-" if value is None else f"{show(value)} ± {show(spread)}" if spread else show(value)
            for value, spread in zip(point.values, spreads, strict=True)
        ]

    @property
    def results(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.complete)

    @property
    def broken(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.broken)

    @property
    def front(self) -> tuple[Point, ...]:
        return tuple(sorted((p for p in self.points if p.rank), key=lambda p: p.rank))


@dataclass(frozen=True)
class Views:
    """``search``: every trial at the first budget, where they compare. ``furthest``: those with the longest one, the
    mean over their seeds; the same as ``search`` where nothing went on."""

    search: Shown
    furthest: Shown


def show(value: Choice) -> str:
    """A value as short as it is still told apart."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.5g}"
        case _:
            return str(value)


def plain_names(keys: Sequence[str]) -> dict[str, str]:
    """The last words of every dotted key that tell it from the others: ``backbone.levels.0.depth`` is "depth"."""
    parts = {key: key.split(".") for key in keys}

    def name(key: str, count: int) -> str:
        return " ".join(parts[key][-count:]).replace("_", " ")

    names = {}
    for key in keys:
        counts = range(1, len(parts[key]) + 1)
        others = [other for other in keys if other != key]
        alone = (c for c in counts if all(name(other, c) != name(key, c) for other in others))
        names[key] = name(key, next(alone, len(parts[key])))
    return names
