"""The schema of a sweep file, which defines a study of one experiment.

Each trial trains the base experiment with the settings under ``set`` and the trial's own parameters. The study writes
its files to ``out/NAME/``: a run folder per trial, such as ``trial-0007``, and a folder ``study`` with the parent run,
logs, and plots.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pocketdit.bounds import Between, Count, CountOrZero, check_bounds
from pocketdit.config.component import Component, Role
from pocketdit.names import is_plain_name
from sweeps.dimensions import Dimension, Scalar
from sweeps.objectives import Bound, Direction, Logged, Objective

TRAINER = Role("a trainer of trials (sweeps/engine/training.py)", ("__call__",))


@dataclass(frozen=True)
class Sampler:
    """How trial parameters are chosen.

    Attributes:
        kind: Optuna's TPE, NSGA-II, Gaussian process, or random sampler.
        startup: Number of initial trials with random parameters. For NSGA-II, the population size.
        seed: Seed of the sampler, independent of the training seed.
    """

    kind: Literal["tpe", "nsga2", "gp", "random"] = "tpe"
    startup: Annotated[int, Between(2, 1_000_000)] = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Pruner:
    """How unpromising trials are stopped early, in studies with a single logged objective.

    Attributes:
        kind: ``asha`` is asynchronous successive halving; ``hyperband`` runs several brackets of it.
        least_steps: Number of optimizer steps before a trial can be pruned. Trials are compared at every validation.
        reduction: One in every ``reduction`` trials continues to the next rung of the pruner.
    """

    kind: Literal["asha", "hyperband"]
    least_steps: Count
    reduction: Annotated[int, Between(2, 1000)] = 3

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Budget:
    """How many trials are trained, and for how long.

    Attributes:
        trials: Number of trials in the search, not counting infeasible ones.
        steps: Optimizer steps of each rung, in increasing order. The search trains to ``steps[0]``.
        promote: ``promote[i]`` is the number of trials that continue from their checkpoints to ``steps[i + 1]``.
        finalists: Number of trials that are trained again to the last rung with each seed in ``seeds``. If there are
            finalists, only they can be on the front.
        seeds: Additional training seeds for the finalists.
    """

    trials: Annotated[int, Between(1, 1_000_000)]
    steps: tuple[Count, ...]
    promote: tuple[int, ...] = ()
    finalists: int = 0
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must be positive and strictly increasing")
        if len(self.promote) != len(self.steps) - 1:
            raise ValueError(
                f"promote must have one count for each entry of steps after the first, {len(self.steps) - 1} in total"
            )
        counts = (self.trials, *self.promote, self.finalists)
        if list(counts) != sorted(counts, reverse=True) or min(self.promote, default=1) < 1 or self.finalists < 0:
            raise ValueError(
                "trials, promote and finalists must not increase in this order, and each count in promote must be "
                "at least 1"
            )
        if bool(self.finalists) != bool(self.seeds) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("finalists and seeds must be set together, and seeds must be distinct")


@dataclass(frozen=True)
class Processes:
    """Workers are processes on this machine."""

    kind: Literal["processes"] = "processes"


@dataclass(frozen=True)
class Ray:
    """Workers are actors on a Ray cluster.

    Attributes:
        address: Address of the cluster; if empty, a cluster is started on this machine.
        cpus: CPUs per worker.
        gpus: GPUs per worker; can be a fraction.
    """

    kind: Literal["ray"] = "ray"
    address: str = ""
    cpus: Annotated[float, Between(0, 10_000)] = 1.0
    gpus: Annotated[float, Between(0, 10_000)] = 0.0


@dataclass(frozen=True)
class Slurm:
    """Workers are SLURM jobs submitted with submitit.

    Attributes:
        cluster: ``slurm``, or ``local`` or ``debug`` to run the jobs on this machine.
        parameters: Parameters of submitit's executor, such as ``slurm_partition``, ``timeout_min`` and
            ``gpus_per_node``.
    """

    kind: Literal["slurm"] = "slurm"
    cluster: Literal["slurm", "local", "debug"] = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)


Launcher = Processes | Ray | Slurm


@dataclass(frozen=True)
class Heartbeat:
    """How dead workers are detected.

    Attributes:
        every: Seconds between a worker's heartbeats.
        grace: Seconds without a heartbeat after which the worker's trial returns to the queue.
        retries: Number of times that a trial returns to the queue before it is abandoned.
    """

    every: Count = 10
    grace: Count = 60
    retries: CountOrZero = 3

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.grace < 2 * self.every:
            raise ValueError("grace must be at least 2 * every")


@dataclass(frozen=True)
class Sweep:
    """Settings of a study.

    Attributes:
        sweep: Name of the study.
        base: YAML file of the experiment.
        space: Named dimensions of the search space. A dimension sets all keys of the experiment that its ``keys``
            lists or, if it lists none, the key with the dimension's name.
        objectives: Named objectives.
        set: Settings of the experiment that all trials share, with dotted keys.
        require: Comparisons of trial parameters, such as ``radius < blocks``, that a trial must satisfy to be trained.
            A comparison is also satisfied if the trial lacks one of its parameters.
        baselines: Parameters of trials that are trained to every rung and with every seed regardless of their results,
            for comparison with other trials. They count toward the budget.
        constraints: Named bounds on computed quantities.
        pruner: Stops unpromising trials early. If None, every trial is trained to the end of its rung.
        seed: Training seed of every trial.
        storage: SQLAlchemy URL of Optuna's storage, which serves as the queue for all workers. If empty,
            ``sqlite:///OUT/sweeps.db``.
        out: Parent of the study's folder.
        workers: Number of trials that run at the same time.
        train: The class that trains a trial; see ``sweeps/engine/training.py``.
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
    workers: Annotated[int, Between(1, 10_000)] = 1
    launcher: Launcher = field(default_factory=Processes)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    train: Annotated[Component, TRAINER] = field(default_factory=lambda: Component("sweeps.engine.training.Train"))

    def __post_init__(self) -> None:
        if not is_plain_name(self.sweep):
            raise ValueError("sweep must be a plain name without slashes or a leading dot; it becomes a folder")
        if not self.space:
            raise ValueError("space must not be empty")
        if not self.objectives:
            raise ValueError("objectives must not be empty")
        check_bounds(self)
        rungs = [self.budget.trials, *self.budget.promote, *([self.budget.finalists] if self.budget.finalists else [])]
        if len(self.baselines) > min(rungs):
            raise ValueError("baselines must not outnumber trials, any count in promote, or finalists")
        only = next(iter(self.objectives.values())) if len(self.objectives) == 1 else None
        if self.pruner and not isinstance(only, Logged):
            raise ValueError(
                "pruner requires exactly one objective, of kind logged; for several objectives, use budget.steps"
            )
        if self.pruner and len(self.budget.steps) > 1:
            raise ValueError("pruner cannot be combined with several budget.steps; remove one of them")

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the storage."""
        url = self.storage or f"sqlite:///{self.out / 'sweeps.db'}"
        # If the URL names no driver, SQLAlchemy may choose a driver that the extra `many` does not install.
        rest = url.removeprefix("postgresql://")
        return url if rest == url else f"postgresql+psycopg2://{rest}"

    @property
    def folder(self) -> Path:
        """Folder with the parent run, logs, and plots, next to the trials' run folders."""
        return self.out / self.sweep / "study"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of each objective, in order."""
        return tuple(objective.direction for objective in self.objectives.values())
