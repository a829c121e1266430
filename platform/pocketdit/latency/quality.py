"""The recorded quality of a run at each operating point, from evaluation scores or from the run's validation loss."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.config.experiment import Sampling
from pocketdit.counts import counted
from pocketdit.errors import ConfigError
from pocketdit.tracking.journal import read_metrics

# Names of benchmarks in evaluation results, in order of preference.
_PREFERRED = ("geneval", "dpg", "t2i-compbench", "clip-score", "fd")


@dataclass(frozen=True)
class OperatingPoint:
    """A sub-network of a run, and its sampling settings.

    Attributes:
        run: Full name of the run.
        bits: Average number of bits per weight.
        width: Width of the sub-network.
        steps: Number of sampling steps.
        sampler: Name of the sampler.
        guidance: Guidance scale. A scale of 1 disables guidance.
    """

    run: str
    bits: float
    width: float
    steps: int
    sampler: str
    guidance: float

    @property
    def evaluations_per_step(self) -> float:
        """Average number of network evaluations per sampling step.

        Guidance requires two evaluations, one with and one without text. Heun's method doubles the number of
        evaluations in every step except the last.
        """
        slopes = (2 * self.steps - 1) / self.steps if self.sampler == "heun" else 1
        return slopes * (1 if self.guidance == 1 else 2)


@dataclass(frozen=True)
class EvaluatedScore:
    """The overall score of one metric in one evaluation.

    Attributes:
        evaluation: Name of the evaluation.
        metric: Name of the metric: the benchmark, followed by the judge in parentheses.
        higher_is_better: Whether a higher value is better.
        value: The score.
        images: Number of images that were scored.
        provenance: Origin and sampling settings of the images of each prompt set.
    """

    evaluation: str
    metric: str
    higher_is_better: bool
    value: float
    images: int
    provenance: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Quality:
    """Comparable values of one metric.

    Attributes:
        metric: Name of the metric.
        source: Description of the source of the values.
        higher_is_better: Whether a higher value is better.
        values: Value at each operating point.
    """

    metric: str
    source: str
    higher_is_better: bool
    values: Mapping[OperatingPoint, float]


class _Group(NamedTuple):
    """The properties that scores must share to be comparable."""

    metric: str
    evaluation: str
    size: str
    images: int


def quality_from_scores(scores: Sequence[EvaluatedScore], runs: Mapping[str, float], metric: str) -> Quality | None:
    """Choose the comparable scores that cover the most widths.

    Ties are broken by the number of operating points, then by the number of images.

    Args:
        scores: Scores of all runs, oldest first. A newer score replaces an older one for the same operating point.
        runs: Mapping from the full names of the runs whose scores are compared to their bits per weight.
        metric: Name of a metric or of its benchmark. If it is empty, the preferred metric among those with the most
            widths is chosen.

    Returns:
        The chosen scores, or None if the runs have no scores.

    Raises:
        ConfigError: The runs were not evaluated with ``metric``.
    """
    groups: defaultdict[_Group, dict[OperatingPoint, float]] = defaultdict(dict)
    higher_is_better: dict[str, bool] = {}
    for score in scores:
        point = operating_point_of(score.provenance, runs)
        if point is None:
            continue
        size = "x".join(str(side) for side in next(iter(score.provenance.values()))["size"])
        groups[_Group(score.metric, score.evaluation, size, score.images)][point] = score.value
        higher_is_better[score.metric] = score.higher_is_better
    if not groups:
        return None

    def width_count(group: _Group) -> int:
        return len({point.width for point in groups[group]})

    names = list(dict.fromkeys(group.metric for group in groups))
    if not metric:
        widths = {name: max(width_count(group) for group in groups if group.metric == name) for name in names}
        names = [name for name in names if widths[name] == max(widths.values())]
    chosen = choose_metric(names, metric)
    best = max(
        (group for group in groups if group.metric == chosen),
        key=lambda group: (width_count(group), len(groups[group]), group.images),
    )
    source = f"evaluation {best.evaluation}, {counted(best.images, 'image')} of {best.size} pixels"
    return Quality(chosen, source, higher_is_better[chosen], groups[best])


def operating_point_of(provenance: Mapping[str, Mapping[str, Any]], runs: Mapping[str, float]) -> OperatingPoint | None:
    """Return the operating point at which one of the runs generated the evaluated images.

    Returns:
        The operating point, or None if other runs generated the images or the prompt sets have different operating
        points.
    """
    points = {
        OperatingPoint(
            entry["run"],
            runs[entry["run"]],
            float(entry["width"]),
            int(entry["steps"]),
            str(entry["sampler"]),
            float(entry["guidance"]),
        )
        for entry in provenance.values()
        if entry.get("subject") == "run" and entry.get("run") in runs
    }
    return points.pop() if len(points) == 1 else None


def choose_metric(names: Iterable[str], requested: str) -> str:
    """Return the full name of the requested metric or, if ``requested`` is empty, of the preferred metric.

    Args:
        names: Full names of the available metrics.
        requested: Full name of a metric, or the name of its benchmark.

    Raises:
        ConfigError: The requested metric is not available.
    """
    names = list(names)
    if requested:
        for name in names:
            if requested in (name, _benchmark_of(name)):
                return name
        raise ConfigError(
            f"metric={requested}: the run was not evaluated with this metric{did_you_mean_or_all(requested, names)}"
        )
    rank = {name: position for position, name in enumerate(_PREFERRED)}
    return min(names, key=lambda name: rank.get(_benchmark_of(name), len(rank)))


def _benchmark_of(metric: str) -> str:
    return metric.partition(" (")[0]


def quality_from_validation(metrics: Path, run: str, bits: float, sampling: Sampling) -> Quality | None:
    """Read the last validation loss of each width.

    Args:
        metrics: Path of the run's logged metrics.
        run: Full name of the run.
        bits: Average number of bits per weight of the run.
        sampling: Sampling settings of the run, which define the operating points.

    Returns:
        The losses, or None if the run did not log a validation loss.
    """
    curves = read_metrics(metrics) if metrics.is_file() else {}
    prefix = "validation/loss/width_"
    last = {key.removeprefix(prefix): curve[-1] for key, curve in curves.items() if key.startswith(prefix)}
    values = {
        OperatingPoint(run, bits, float(width), sampling.steps, sampling.sampler, sampling.guidance): value
        for width, (_, value) in last.items()
    }
    if not values:
        return None
    step = max(step for step, _ in last.values())
    source = (
        f"from training step {step}, used because the run was not evaluated; this loss does not depend on the sampling "
        "steps"
    )
    return Quality("validation loss", source, higher_is_better=False, values=values)
