"""The configuration of an evaluation: a subject, prompt sets and metrics (one YAML file in ``experiments/eval/``)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pocketdit.bounds import Between, Fraction, Guidance, Steps, check_bounds
from pocketdit.config.component import Component, Role
from pocketdit.config.experiment import Tracking
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.names import is_plain_name

MIN_RESAMPLES = 100
SUBJECT = Role("a subject (evaluation/subjects/subject.py)", ("images",))
PROMPT_SET = Role("a prompt set (evaluation/prompts)", ("load",))
METRIC = Role("a metric (evaluation/contract.py)", (), either=("score", "measure"))


@dataclass(frozen=True)
class Evaluation:
    """The settings of ``lightning evaluate``.

    The settings ``run``, ``width``, ``steps``, ``guidance``, ``sampler``, ``seed``, ``data`` and ``device`` have no
    effect by themselves. They can be set on the command line, and the YAML passes them on to components by
    interpolation (``width: ${width}``).

    Attributes:
        evaluation: Name of the evaluation and of its folder under ``out``.
        subject: The model or the image folder to evaluate.
        prompts: Mapping from names to prompt sets. Metrics refer to prompt sets by these names.
        metrics: The metrics to compute.
        run: Name of the run.
        width: Width of the sub-network.
        steps: Number of sampling steps; null uses the run's setting.
        guidance: Guidance scale; null uses the run's setting.
        sampler: Name of the sampler; null uses the run's setting.
        seed: Seed of the sampled images.
        out: Folder for results and images.
        data: Folder for the benchmarks' files, to which ``--fetch`` downloads them.
        device: Device of the judges.
        resamples: Number of resamples for bootstrap confidence intervals.
        tracking: Where results are logged.
    """

    evaluation: str
    subject: Annotated[Component, SUBJECT]
    prompts: dict[str, Annotated[Component, PROMPT_SET]]
    metrics: tuple[Annotated[Component, METRIC], ...]
    run: str = ""
    width: Fraction = 1.0
    steps: Steps | None = None
    guidance: Guidance | None = None
    sampler: SamplerName | None = None
    seed: int = 0
    out: Path = Path("evaluations")
    data: Path = Path("data/evaluation")
    device: str = "cpu"
    resamples: Annotated[int, Between(MIN_RESAMPLES, 1_000_000)] = 1000
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        check_bounds(self)
        if not is_plain_name(self.evaluation):
            raise ValueError(f"evaluation must be a plain name (it names a folder under out), not {self.evaluation!r}")
        if not self.metrics:
            raise ValueError("metrics must not be empty")
        for metric in self.metrics:
            name = metric.init_args.get("prompts")
            if name is not None and name not in tuple(self.prompts):
                raise ValueError(
                    f"{metric.class_path}: prompt set {name!r} is not defined; choose from {', '.join(self.prompts)}"
                )
