"""The recorded quality of a run by operating point: scores of evaluations, or the run's validation loss."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.config.experiment import Sampling
from pocketdit.errors import ConfigError
from pocketdit.tracking.journal import read_metrics

# Preferred metrics, best first, by the benchmark's name in evaluation results.
_PREFERRED = ("geneval", "dpg", "t2i-compbench", "clip-score", "fd")


@dataclass(frozen=True)
class OperatingPoint:
    """A sub-network with the settings of its sampler.

    Attributes:
        width: Width of the sub-network.
        steps: Number of sampling steps.
        sampler: Name of the sampler.
        guidance: Guidance scale; 1 means no guidance.
    """

    width: float
    steps: int
    sampler: str
    guidance: float

    @property
    def evaluations_per_step(self) -> float:
        """Average number of network evaluations per sampling step.

        Guidance takes two, with and without text. Heun takes twice as many, except in its last step.
        """
        slopes = (2 * self.steps - 1) / self.steps if self.sampler == "heun" else 1
        return slopes * (1 if self.guidance == 1 else 2)


@dataclass(frozen=True)
class EvaluatedScore:
    """The overall score of one metric in one evaluation.

    Attributes:
        evaluation: Name of the evaluation.
        metric: Name of the metric: the benchmark's name, and the judge's in parentheses.
        higher_is_better: Whether a higher value is better.
        value: The score.
        images: Number of images that were scored.
        provenance: How the images were generated, by prompt set.
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
        source: Where the values are from.
        higher_is_better: Whether a higher value is better.
        values: Value by operating point.
    """

    metric: str
    source: str
    higher_is_better: bool
    values: Mapping[OperatingPoint, float]


class _Group(NamedTuple):
    """Scores compare only within one metric, evaluation, image size and number of images."""

    metric: str
    evaluation: str
    size: str
    images: int


def quality_from_scores(scores: Sequence[EvaluatedScore], run: str, metric: str) -> Quality | None:
    """Choose the comparable scores that cover the most widths, then the most operating points, then the most images.

    Args:
        scores: Scores of all runs, oldest first. A newer score replaces an older one for the same operating point.
        run: Full name of the run.
        metric: Name of a metric or of its benchmark. Empty: the preferred one among those with the most widths.

    Returns:
        The scores, or None if there are none for this run.

    Raises:
        ConfigError: The run was not evaluated with ``metric``.
    """
    groups: defaultdict[_Group, dict[OperatingPoint, float]] = defaultdict(dict)
    higher_is_better: dict[str, bool] = {}
    for score in scores:
        point = operating_point_of(score.provenance, run)
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
    source = f"evaluation {best.evaluation}, {best.images} images of {best.size}"
    return Quality(chosen, source, higher_is_better[chosen], groups[best])


def operating_point_of(provenance: Mapping[str, Mapping[str, Any]], run: str) -> OperatingPoint | None:
    """The operating point that a run's images were generated at.

    Returns:
        None for images of another run, or if prompt sets used different operating points.
    """
    points = {
        OperatingPoint(float(entry["width"]), int(entry["steps"]), str(entry["sampler"]), float(entry["guidance"]))
        for entry in provenance.values()
        if entry.get("subject") == "run" and entry.get("run") == run
    }
    return points.pop() if len(points) == 1 else None


def choose_metric(names: Iterable[str], requested: str) -> str:
    """Find a metric's full name by its own name or its benchmark's. Without a request, choose the preferred one.

    Raises:
        ConfigError: No metric has the requested name.
    """
    names = list(names)
    if requested:
        for name in names:
            if requested in (name, _benchmark_of(name)):
                return name
        raise ConfigError(
            f"metric={requested}: this run was not evaluated with this metric{did_you_mean_or_all(requested, names)}"
        )
    rank = {name: position for position, name in enumerate(_PREFERRED)}
    return min(names, key=lambda name: rank.get(_benchmark_of(name), len(rank)))


def _benchmark_of(metric: str) -> str:
    return metric.partition(" (")[0]


def quality_from_validation(metrics: Path, sampling: Sampling) -> Quality | None:
    """The last validation loss of every width, at the run's own sampling settings.

    Returns:
        None if the run logged no validation loss.
    """
    curves = read_metrics(metrics) if metrics.is_file() else {}
    prefix = "validation/loss/width_"
    last = {key.removeprefix(prefix): curve[-1] for key, curve in curves.items() if key.startswith(prefix)}
    values = {
        OperatingPoint(float(width), sampling.steps, sampling.sampler, sampling.guidance): value
        for width, (_, value) in last.items()
    }
    if not values:
        return None
    step = max(step for step, _ in last.values())
    source = f"from training step {step}, because the run was not evaluated; it does not depend on the number of steps"
    return Quality("validation loss", source, higher_is_better=False, values=values)
