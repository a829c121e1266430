"""The recorded quality of a run by width and number of steps: evaluation results, or the run's validation loss."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.config.experiment import Sampling
from pocketdit.errors import ConfigError
from pocketdit.tracking import journal

# Which benchmark speaks where several were run, by the names in evaluation results.
_PREFERRED = ("geneval", "dpg", "t2i-compbench", "clip-score", "fd")
VALIDATION = "validation/loss/width_"


@dataclass(frozen=True)
class Way:
    """How a picture is made: the sub-network and the sampling."""

    width: float
    steps: int
    sampler: str
    guidance: float

    @property
    def evaluations(self) -> float:
        """Of the network for one sampling step, on average.

        Guidance takes two (text and no text), Heun twice as many but in its last step.
        """
        slopes = (2 * self.steps - 1) / self.steps if self.sampler == "heun" else 1
        return slopes * (1 if self.guidance == 1 else 2)


@dataclass(frozen=True)
class Quality:
    """``values`` by way, all comparable: of one metric on as many prompts of one evaluation; ``source`` says which."""

    metric: str
    source: str
    higher_is_better: bool
    values: Mapping[Way, float]


def from_reports(reports: Sequence[Any], run: str, metric: str) -> Quality | None:
    """From evaluations' reports (``evaluation.report.results.Report``); None where none is of the run.

    Scores compare within one evaluation, metric, size and number of pictures: the group with the most widths speaks,
    then the one with the most ways, then the one with the most pictures. The newest report comes last and replaces
    earlier ones.
    ``ConfigError`` for a ``metric`` that there is not.
    """
    groups: defaultdict[tuple[str, str, str, int], dict[Way, float]] = defaultdict(dict)
    better: dict[str, bool] = {}
    for report in reports:
        way = way_of(report.made, run)
        if way is None:
            continue
        for result in report.results:
            better[result.metric] = result.higher_is_better
            if score := result.scores.get("overall"):
                size = "x".join(str(side) for side in next(iter(report.made.values()))["size"])
                groups[result.metric, report.evaluation, size, score.samples][way] = score.value
    names = list(dict.fromkeys(name for name, *_ in groups))
    if not names:
        return None
    if not metric:
        widths = {
            name: max(len({way.width for way in groups[key]}) for key in groups if key[0] == name) for name in names
        }
        names = [name for name in names if widths[name] == max(widths.values())]
    chosen = choose_metric(names, metric)
    best = max(
        (key for key in groups if key[0] == chosen),
        key=lambda key: (len({way.width for way in groups[key]}), len(groups[key]), key[3]),
    )
    _, evaluation, size, samples = best
    source = f"evaluation {evaluation}, {samples} pictures of {size}"
    return Quality(chosen, source, better[chosen], groups[best])


def way_of(made: Mapping[str, Mapping[str, Any]], run: str) -> Way | None:
    """From a report's provenance; None where it is not of the run, or pictures were made in several ways."""
    ways = {
        Way(float(one["width"]), int(one["steps"]), str(one["sampler"]), float(one["guidance"]))
        for one in made.values()
        if one.get("subject") == "run" and one.get("run") == run
    }
    return ways.pop() if len(ways) == 1 else None


def choose_metric(names: Iterable[str], wanted: str) -> str:
    """A metric's full name from its own, or from the benchmark's."""
    names = list(names)
    if wanted:
        for name in names:
            if wanted in (name, name.partition(" (")[0]):
                return name
        raise ConfigError(f"metric={wanted}: no such result of this run{did_you_mean_or_all(wanted, names)}")
    order = {name: place for place, name in enumerate(_PREFERRED)}
    return min(names, key=lambda name: order.get(name.partition(" (")[0], len(order)))


def from_validation(metrics: Path, sampling: Sampling) -> Quality | None:
    """The last validation loss of every width, with the run's own sampling; None where there is none."""
    curves = journal.read_metrics(metrics) if metrics.is_file() else {}
    last = {key.removeprefix(VALIDATION): curve[-1] for key, curve in curves.items() if key.startswith(VALIDATION)}
    values = {
        Way(float(width), sampling.steps, sampling.sampler, sampling.guidance): value
        for width, (_, value) in last.items()
    }
    if not values:
        return None
    step = max(step for step, _ in last.values())
    source = f"the run's own at step {step}, for want of evaluations: it knows no number of steps"
    return Quality("validation loss", source, higher_is_better=False, values=values)
