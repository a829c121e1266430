"""The configuration of an evaluation: a subject, prompt sets and metrics (one YAML in ``experiments/eval/``)."""

from dataclasses import dataclass, field
from pathlib import Path

from pocketdit.config.component import Component
from pocketdit.config.experiment import Tracking
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.names import is_plain_name

MIN_RESAMPLES = 100


@dataclass(frozen=True)
class Evaluation:
    """The settings of ``lightning evaluate``.

    ``run`` to ``seed``, ``data`` and ``device`` have no effect by themselves: they let the command line reach the
    components, to which the YAML passes them by interpolation (``width: ${width}``).

    Attributes:
        evaluation: Name of the evaluation, and of its folder under ``out``.
        subject: What is evaluated.
        prompts: Prompt sets by the names that metrics refer to them by.
        metrics: The metrics to compute.
        run: Name of the run.
        width: Width of the sub-network.
        steps: Sampling steps; null uses the run's own.
        guidance: Guidance scale; null uses the run's own.
        sampler: Sampler; null uses the run's own.
        seed: Seed of the sampled images.
        out: Folder for results and images.
        data: Folder for the benchmarks' files, which ``--fetch`` fills.
        device: Device of the judges.
        resamples: Resamples of the bootstrap confidence intervals.
        tracking: Where results are logged.
    """

    evaluation: str
    subject: Component
    prompts: dict[str, Component]
    metrics: tuple[Component, ...]
    run: str = ""
    width: float = 1.0
    steps: int | None = None
    guidance: float | None = None
    sampler: SamplerName | None = None
    seed: int = 0
    out: Path = Path("evaluations")
    data: Path = Path("data/evaluation")
    device: str = "cpu"
    resamples: int = 1000
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if not is_plain_name(self.evaluation):
            raise ValueError(f"evaluation must be a plain name (it is a folder under out), not {self.evaluation!r}")
        if not self.metrics:
            raise ValueError("metrics must not be empty")
        if self.resamples < MIN_RESAMPLES:
            raise ValueError(f"resamples must be at least {MIN_RESAMPLES}, not {self.resamples}")
        for metric in self.metrics:
            name = metric.init_args.get("prompts")
            if name is not None and name not in tuple(self.prompts):
                raise ValueError(
                    f"{metric.class_path}: prompts {name!r} is not defined; defined are {', '.join(self.prompts)}"
                )
