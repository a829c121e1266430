"""Objectives of a study, and constraints that a trial must satisfy to be trained."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pocketdit.config.component import Component, Role

Direction = Literal["minimize", "maximize"]
COST = Role("a cost (sweeps/costs.py)", ("__call__",))
SCORE = Role("a score (sweeps/scores.py)", ("__call__",))


@dataclass(frozen=True)
class Logged:
    """The value that the experiment logs for a metric at the trial's last step.

    Attributes:
        metric: Name of the metric, such as ``validation/loss/width_1``. For a name with ``*``, such as
            ``validation/loss/width_*``, the objective is the mean of all matching metrics.
        direction: Whether lower or higher values are better.
        unit: Unit for tables and plots.
    """

    kind: Literal["logged"]
    metric: str
    direction: Direction = "minimize"
    unit: str = ""


@dataclass(frozen=True)
class Computed:
    """A quantity computed from the configuration before training.

    Attributes:
        of: A class whose instances map an ``Experiment`` to a float; see ``sweeps/costs.py``.
        direction: Whether lower or higher values are better.
        unit: Unit for tables and plots.
    """

    kind: Literal["computed"]
    of: Annotated[Component, COST]
    direction: Direction = "minimize"
    unit: str = ""


@dataclass(frozen=True)
class Scored:
    """A quantity measured on the trained run.

    Attributes:
        of: A class whose instances map a ``RunFolder`` to a float; see ``sweeps/scores.py``.
        direction: Whether lower or higher values are better.
        unit: Unit for tables and plots.
    """

    kind: Literal["scored"]
    of: Annotated[Component, SCORE]
    direction: Direction = "minimize"
    unit: str = ""


Objective = Logged | Computed | Scored


@dataclass(frozen=True)
class Bound:
    """Bounds on a quantity computed before training. A trial outside the bounds is not trained.

    Attributes:
        of: A class whose instances map an ``Experiment`` to a float; see ``sweeps/costs.py``.
        at_least: Smallest allowed value.
        at_most: Largest allowed value.
        unit: Unit for plots.
    """

    of: Annotated[Component, COST]
    at_least: float = float("-inf")
    at_most: float = float("inf")
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.at_least <= self.at_most or (self.at_least, self.at_most) == (float("-inf"), float("inf")):
            raise ValueError("set at_least, at_most, or both; at_least must not be greater than at_most")
