"""One YAML in ``sweeps/`` is one of these: a study over an experiment.

A trial is the base experiment with ``set`` and the trial's own choices put over it. The files of a study lie in
``out/NAME/``: one run folder a trial (``trial-0007``), and ``study`` for the parent run, the log and the pictures.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pocketdit.config.component import Component

Scalar = bool | int | float | str | None
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class IntRange:
    """Whole numbers from ``low`` to ``high``, both included. ``keys``: see ``Sweep.space``."""

    kind: Literal["int"]
    low: int
    high: int
    step: int = 1
    log: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_range(self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise ValueError("step must be at least 1, and 1 where log is true")


@dataclass(frozen=True)
class FloatRange:
    """Numbers from ``low`` to ``high``, both included; of every ``step`` where one is given."""

    kind: Literal["float"]
    low: float
    high: float
    step: float | None = None
    log: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_range(self.low, self.high, self.log)
        if self.step is not None and (self.step <= 0 or self.log):
            raise ValueError("step must be positive, and goes without log")


@dataclass(frozen=True)
class Values:
    """One of a list."""

    kind: Literal["values"]
    values: tuple[Scalar, ...]
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_some(self.values)


@dataclass(frozen=True)
class Options:
    """One of several named sets of values: option -> key of the experiment -> value, which replaces what is there.

    ``$name`` in a value stands for another choice, which is then made only where such an option is taken.
    """

    kind: Literal["options"]
    options: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        _require_some(self.options)


Dimension = IntRange | FloatRange | Values | Options


@dataclass(frozen=True)
class Logged:
    """A metric that the experiment logs, at the trial's last step: ``validation/loss/width_1``. With a star in it
    the mean of all that it fits: ``validation/loss/width_*``."""

    kind: Literal["logged"]
    metric: str
    direction: Direction = "minimize"
    unit: str = ""


@dataclass(frozen=True)
class Computed:
    """A figure of the configuration, known before training. ``of``: a class that is called with the ``Experiment``
    and returns a float, as in ``sweeps/costs.py``."""

    kind: Literal["computed"]
    of: Component
    direction: Direction = "minimize"
    unit: str = ""


@dataclass(frozen=True)
class Scored:
    """A figure of the trained run. ``of``: a class that is called with the ``RunFolder`` and returns a float."""

    kind: Literal["scored"]
    of: Component
    direction: Direction = "minimize"
    unit: str = ""


Objective = Logged | Computed | Scored


@dataclass(frozen=True)
class Bound:
    """A figure that is computed before training and must lie within; a trial outside is never trained."""

    of: Component
    at_least: float = float("-inf")
    at_most: float = float("inf")
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.at_least <= self.at_most or (self.at_least, self.at_most) == (float("-inf"), float("inf")):
            raise ValueError("give at_least or at_most, and the one not above the other")


@dataclass(frozen=True)
class Sampler:
    """``startup``: trials that are drawn at random first (NSGA-II: the size of a population)."""

    kind: Literal["tpe", "nsga2", "gp", "random"] = "tpe"
    startup: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.startup < 2:
            raise ValueError("startup must be at least 2")


@dataclass(frozen=True)
class Pruner:
    """Of a single objective that is logged. Trials are compared at every validation, from ``least_steps`` on; of
    each ``reduction`` one goes on. ``asha`` is successive halving without waiting, Hyperband several of it."""

    kind: Literal["asha", "hyperband"]
    least_steps: int
    reduction: int = 3

    def __post_init__(self) -> None:
        if self.least_steps < 1 or self.reduction < 2:
            raise ValueError("least_steps must be at least 1 and reduction at least 2")


@dataclass(frozen=True)
class Budget:
    """``trials``: trained to ``steps[0]`` optimizer steps (invalid ones not counted). Then the best ``promote[i]`` go
    on from their checkpoints to ``steps[i+1]``. In the end the best ``finalists`` are trained again with every one of
    ``seeds``, and only these make the front: give as many finalists as points are wanted on it."""

    trials: int
    steps: tuple[int, ...]
    promote: tuple[int, ...] = ()
    finalists: int = 0
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError("trials must be at least 1")
        if not self.steps or min(self.steps) < 1 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must rise")
        if len(self.promote) != len(self.steps) - 1:
            raise ValueError(f"promote must say how many go on to each of steps[1:], so {len(self.steps) - 1} numbers")
        counts = (self.trials, *self.promote, self.finalists)
        if list(counts) != sorted(counts, reverse=True) or min(self.promote, default=1) < 1 or self.finalists < 0:
            raise ValueError("promote and finalists must not grow, and promote at least 1 each")
        if bool(self.finalists) != bool(self.seeds) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("finalists go with seeds, each of which is given once")


@dataclass(frozen=True)
class Processes:
    """Plain processes on this machine."""

    kind: Literal["processes"] = "processes"


@dataclass(frozen=True)
class Ray:
    """Actors on a Ray cluster. ``address``: empty for one on this machine alone; ``gpus``: may be a fraction."""

    kind: Literal["ray"] = "ray"
    address: str = ""
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Slurm:
    """Jobs by submitit. ``cluster``: "slurm", or "local" for processes that it starts here. ``parameters``: of
    submitit's executor, such as ``slurm_partition``, ``timeout_min``, ``gpus_per_node``."""

    kind: Literal["slurm"] = "slurm"
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)


Launcher = Processes | Ray | Slurm


@dataclass(frozen=True)
class Heartbeat:
    """A worker says every ``every`` seconds that it lives. A trial whose worker was silent for ``grace`` seconds goes
    back into the queue, ``retries`` times at most."""

    every: int = 10
    grace: int = 60
    retries: int = 3

    def __post_init__(self) -> None:
        if self.every < 1 or self.grace < 2 * self.every or self.retries < 0:
            raise ValueError("every must be at least 1 second, grace at least twice that, retries not negative")


@dataclass(frozen=True)
class Sweep:
    """``sweep``: the name. ``base``: an experiment. ``set``: keys of it with other values, for all trials.

    ``space``: choice by choice. A choice sets the key of the experiment that it is named by, or all of its ``keys``.
    ``require``: comparisons of choices (``radius < blocks``) that a trial must meet to be trained; one whose choices
    are not all made is met. ``baselines``: choices that are trained whatever they are worth, to every budget and with
    every seed, so that the others are seen beside them; they take places of the budget. ``storage``: SQLAlchemy
    address of Optuna's storage, the queue that all workers share; empty is ``sqlite:///OUT/sweeps.db``. ``train``: what
    trains a trial (``sweeps/train.py``).
    """

    sweep: str
    base: Path
    space: dict[str, Dimension]
    objectives: dict[str, Objective]
    budget: Budget
    set: dict[str, Any] = field(default_factory=dict)
    require: tuple[str, ...] = ()
    baselines: tuple[dict[str, Scalar], ...] = ()
    constraints: dict[str, Bound] = field(default_factory=dict)
    sampler: Sampler = field(default_factory=Sampler)
    pruner: Pruner | None = None
    seed: int = 0
    storage: str = ""
    out: Path = Path("runs")
    workers: int = 1
    launcher: Launcher = field(default_factory=Processes)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    train: Component = field(default_factory=lambda: Component("sweeps.train.Train"))

    def __post_init__(self) -> None:
        if not self.sweep or "/" in self.sweep or self.sweep.startswith("."):
            raise ValueError("sweep must be a plain name: it is a folder under out")
        if not self.space:
            raise ValueError("space must not be empty")
        if not self.objectives:
            raise ValueError("objectives must not be empty")
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
        places = [self.budget.trials, *self.budget.promote, *([self.budget.finalists] if self.budget.finalists else [])]
        if len(self.baselines) > min(places):
            raise ValueError("more baselines than the budget has places for")
        only = next(iter(self.objectives.values())) if len(self.objectives) == 1 else None
        if self.pruner and not isinstance(only, Logged):
            raise ValueError(
                "a pruner goes with one objective, which is logged; for several, give the budget more steps"
            )
        if self.pruner and len(self.budget.steps) > 1:
            raise ValueError("a pruner and several budget.steps do the same; take one of them")

    @property
    def url(self) -> str:
        """Where Optuna keeps the study."""
        return self.storage or f"sqlite:///{self.out / 'sweeps.db'}"

    @property
    def folder(self) -> Path:
        """The study's own folder, beside the trials' run folders: parent run, log, pictures."""
        return self.out / self.sweep / "study"

    @property
    def directions(self) -> tuple[Direction, ...]:
        return tuple(objective.direction for objective in self.objectives.values())


def _require_range(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise ValueError(f"the range from {low} to {high} is empty")
    if log and low <= 0:
        raise ValueError("log needs a low above 0")


def _require_some(values: Any) -> None:
    if len(values) < 2:
        raise ValueError("give at least two to choose from")
