"""Settings of a recipe, which is a YAML file that ``lightning run`` executes."""

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pocketdit.bounds import Between, check_bounds
from pocketdit.config.errors import did_you_mean
from pocketdit.config.experiment import Tracking
from pocketdit.names import is_plain_name


@dataclass(frozen=True)
class Build:
    """Builds a data set with ``lightning data build``.

    Attributes:
        source: What ``lightning data build`` reads: "scenes", "openmoji", or a path.
        out: Folder of the data set. It is replaced if it was built with other settings.
        options: Further options of ``lightning data build``.
    """

    kind: Literal["build"]
    source: str
    out: Path
    options: tuple[str, ...] = ()

    def needs(self) -> dict[str, str]:
        """Return the names of the tasks that this task needs, by the key of the setting that names each."""
        return {}


@dataclass(frozen=True)
class Train:
    """Trains a network with ``lightning run``.

    Attributes:
        file: YAML file of the experiment.
        data: Task that builds the data set. If it is None, the path in the experiment is used.
        parents: Tasks that train the experiment's parents, by role.
        overrides: Overrides of the experiment's settings.
    """

    kind: Literal["train"]
    file: Annotated[Path, "exists"]
    data: str | None = None
    parents: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def needs(self) -> dict[str, str]:
        """Return the names of the tasks that this task needs, by the key of the setting that names each."""
        data = {} if self.data is None else {"data": self.data}
        return data | {f"parents.{role}": task for role, task in self.parents.items()}


@dataclass(frozen=True)
class Evaluate:
    """Evaluates the run of a training task with ``lightning evaluate``.

    Attributes:
        file: YAML file of the evaluation.
        run: Task that trains the network.
        overrides: Overrides of the evaluation's settings.
    """

    kind: Literal["evaluate"]
    file: Annotated[Path, "exists"]
    run: str
    overrides: tuple[str, ...] = ()

    def needs(self) -> dict[str, str]:
        """Return the names of the tasks that this task needs, by the key of the setting that names each."""
        return {"run": self.run}


@dataclass(frozen=True)
class Export:
    """Exports the run of a training task with ``lightning export``.

    Attributes:
        file: YAML file of the export.
        run: Task that trains the network.
        decoder: Task that trains the tiny decoder to export, if any.
        overrides: Overrides of the export's settings.
    """

    kind: Literal["export"]
    file: Annotated[Path, "exists"]
    run: str
    decoder: str | None = None
    overrides: tuple[str, ...] = ()

    def needs(self) -> dict[str, str]:
        """Return the names of the tasks that this task needs, by the key of the setting that names each."""
        return {"run": self.run} | ({} if self.decoder is None else {"decoder": self.decoder})


Task: TypeAlias = Build | Train | Evaluate | Export


@dataclass(frozen=True)
class Local:
    """Runs tasks on this machine.

    Attributes:
        jobs: Number of tasks that can run at the same time. They share the GPUs.
    """

    kind: Literal["local"] = "local"
    jobs: Annotated[int, Between(1, 1024)] = 1

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Slurm:
    """Submits every task as a job with submitit.

    Attributes:
        parameters: Parameters of submitit's ``AutoExecutor``, such as ``timeout_min`` and ``slurm_partition``.
        tasks: Additional parameters for individual tasks, such as ``nodes``, by task name.
        cluster: ``slurm``, or ``local`` to test the recipe with processes on this machine.
    """

    kind: Literal["slurm"]
    parameters: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    cluster: Literal["slurm", "local"] = "slurm"


@dataclass(frozen=True)
class PaperForms:
    """Tasks whose results the report shows in the form of the paper's tables and figures.

    Attributes:
        standalone: Tasks that train standalone networks, for the paper's Table 1.
        elastic: Tasks that train supernets, for Table 1.
        ladder: Tasks that train the architectures of Figure 3, in the order of the figure.
        base: Evaluations of the networks before step distillation, for Figure 8.
        few_step: Evaluations of the networks after step distillation, for Figure 8.
        recipes: Other recipes whose finished tasks are shown in the same report.
    """

    standalone: tuple[str, ...] = ()
    elastic: tuple[str, ...] = ()
    ladder: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    few_step: tuple[str, ...] = ()
    recipes: tuple[Annotated[Path, "exists"], ...] = ()

    def tasks(self) -> dict[str, tuple[Literal["train", "evaluate"], tuple[str, ...]]]:
        """Return the kind of the tasks that each key names, and the tasks."""
        return {
            "standalone": ("train", self.standalone),
            "elastic": ("train", self.elastic),
            "ladder": ("train", self.ladder),
            "base": ("evaluate", self.base),
            "few_step": ("evaluate", self.few_step),
        }


@dataclass(frozen=True)
class Recipe:
    """The settings of a recipe.

    Attributes:
        recipe: Name of the recipe. The names of its runs start with it.
        tasks: The tasks by name.
        launcher: The launcher that runs the tasks.
        runs: Folder of all runs, which overrides the setting of the experiments.
        tracking: MLflow tracking settings, which override those of the experiments and evaluations.
        report: The results that the report shows in the form of the paper's tables and figures.
    """

    recipe: str
    tasks: dict[str, Task]
    launcher: Local | Slurm = field(default_factory=Local)
    runs: Path = Path("runs")
    tracking: Tracking = field(default_factory=Tracking)
    report: PaperForms = field(default_factory=PaperForms)

    def __post_init__(self) -> None:
        for key, name in [("recipe", self.recipe), *(("tasks", name) for name in self.tasks)]:
            if not is_plain_name(name):
                raise ValueError(
                    f"{key}: {name!r} must be a plain name without slashes or a leading dot, because it becomes part "
                    "of file names"
                )
        if not self.tasks:
            raise ValueError("tasks must not be empty")
        self._check_references()
        self._check_order()
        if isinstance(self.launcher, Slurm):
            for name in self.launcher.tasks:
                if name not in self.tasks:
                    raise ValueError(f"launcher.tasks: there is no task {name!r}{did_you_mean(name, self.tasks)}")

    @property
    def folder(self) -> Path:
        """The folder of the recipe's records and logs."""
        return self.runs / "recipes" / self.recipe

    def order(self) -> list[str]:
        """Return the tasks, each after the tasks that it needs."""
        return list(TopologicalSorter(self.graph()).static_order())

    def graph(self) -> dict[str, list[str]]:
        """Return, for each task, the names of the tasks that it needs."""
        return {name: list(task.needs().values()) for name, task in self.tasks.items()}

    def dependents(self, names: set[str]) -> set[str]:
        """Return the given tasks and all tasks that need any of them, directly or indirectly."""
        graph, found = self.graph(), set(names)
        for name in self.order():
            if found & set(graph[name]):
                found.add(name)
        return found

    def _check_references(self) -> None:
        for name, task in self.tasks.items():
            for key, needed in task.needs().items():
                self._check_task(f"tasks.{name}.{key}", needed, "build" if key == "data" else "train")
        for key, (kind, names) in self.report.tasks().items():
            for name in names:
                self._check_task(f"report.{key}", name, kind)

    def _check_task(self, place: str, name: str, kind: Literal["build", "train", "evaluate"]) -> None:
        if name not in self.tasks:
            raise ValueError(f"{place}: there is no task {name!r}{did_you_mean(name, self.tasks)}")
        if self.tasks[name].kind != kind:
            raise ValueError(f"{place}: {name} must be a task of kind {kind}, not {self.tasks[name].kind}")

    def _check_order(self) -> None:
        try:
            self.order()
        except CycleError as error:
            raise ValueError(f"tasks: these tasks need each other: {' -> '.join(error.args[1])}") from None
