"""One YAML in ``experiments/eval/`` is one of these: a subject, prompt sets, metrics."""

from dataclasses import dataclass, field
from pathlib import Path

from pocketdit.config.component import Component
from pocketdit.config.experiment import Tracking
from pocketdit.diffusion.sampler_names import SamplerName


@dataclass(frozen=True)
class Evaluation:
    """``run`` to ``seed``, and ``device``: for the command line; the YAML hands them to its components by
    interpolation.

    ``prompts``: prompt sets by the names that metrics call them by. ``out``: where results and pictures go.
    ``data``: folder of the benchmarks' own files (``--fetch`` fills it). ``resamples``: of the bootstrap.
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
        if not self.evaluation or "/" in self.evaluation or self.evaluation.startswith("."):
            raise ValueError("evaluation must be a plain name: it is a folder under out")
        if not self.metrics:
            raise ValueError("metrics must not be empty")
        if self.resamples < 100:
            raise ValueError("resamples must be at least 100")
        for metric in self.metrics:
            wanted = metric.init_args.get("prompts")
            if wanted is not None and wanted not in self.prompts:
                raise ValueError(f"a metric wants the prompts {wanted!r}, but prompts has {', '.join(self.prompts)}")
