"""Operating points with their quality and cost, and the choice of the best one within the limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pocketdit.latency.formats import Format
from pocketdit.latency.quality import OperatingPoint
from pocketdit.latency.settings import Limits

CostSource = Literal["measured", "predicted", "predicted, no bundle"]


@dataclass(frozen=True)
class Cost:
    """The cost of one network in one format.

    Attributes:
        milliseconds: Milliseconds per evaluation of the transformer.
        low: Lower end of the prediction interval or of the spread of the measurements.
        high: Upper end of the prediction interval or of the spread of the measurements.
        decoder: Milliseconds per evaluation of the decoder, or 0 if unknown.
        memory: Lower bound on the memory of the running transformer in bytes.
        source: Whether the latency was measured or predicted. If there is no bundle in this format, the prediction is
            based on a bundle in another format or on the description of the network.
        batch: Batch size of an evaluation.
        note: Errors that the prediction interval does not cover, or details of the measurement.
    """

    milliseconds: float
    low: float
    high: float
    decoder: float
    memory: int
    source: CostSource
    batch: int = 1
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    """An operating point in one format, with its quality and cost.

    Attributes:
        point: The network and its sampling settings.
        target: The format of the bundle.
        quality: Recorded quality, or None if none is recorded.
        cost: Cost of one evaluation.
    """

    point: OperatingPoint
    target: Format
    quality: float | None
    cost: Cost

    @property
    def evaluations_per_step(self) -> float:
        """Number of evaluations of the graph per sampling step.

        With guidance, a graph of batch size 2 predicts with and without text in the same evaluation.
        """
        return self.point.evaluations_per_step / min(self.cost.batch, 2 if self.point.guidance != 1 else 1)

    @property
    def step_ms(self) -> float:
        """Latency of one sampling step in milliseconds."""
        return self.evaluations_per_step * self.cost.milliseconds

    @property
    def image_ms(self) -> float:
        """Latency of one image in milliseconds, with all sampling steps and the decoder."""
        return self.point.steps * self.step_ms + self.cost.decoder

    def exceeded(self, limits: Limits) -> list[str]:
        """Return a description of each cost that exceeds its limit, such as "410 ms per step > 400"."""
        costs = (
            (self.step_ms, limits.step_ms, 1.0, "ms per step"),
            (self.image_ms, limits.image_ms, 1.0, "ms per image"),
            (self.cost.memory, limits.memory_bytes, 1e6, "MB"),
        )
        return [f"{cost / unit:.4g} {name} > {limit / unit:.4g}" for cost, limit, unit, name in costs if cost > limit]

    def fits(self, limits: Limits) -> bool:
        """Return whether the cost is within the limits."""
        return not self.exceeded(limits)

    def is_uncertain(self, limits: Limits) -> bool:
        """Return whether the candidate is within the limits at only one end of its latency interval."""
        low, high = (
            replace(self, cost=replace(self.cost, milliseconds=end)) for end in (self.cost.low, self.cost.high)
        )
        return low.fits(limits) != high.fits(limits)


def choose_best(candidates: Sequence[Candidate], higher_is_better: bool, limits: Limits) -> Candidate | None:
    """Return the candidate with the best recorded quality within the limits, or None if no candidate fits.

    Ties are broken by the latency per image, then by the memory, then by the order of the candidates.
    """
    sign = 1 if higher_is_better else -1
    ranked = [
        (sign * candidate.quality, -candidate.image_ms, -candidate.cost.memory, -position, candidate)
        for position, candidate in enumerate(candidates)
        if candidate.quality is not None and candidate.fits(limits)
    ]
    return max(ranked)[-1] if ranked else None


def reason_against(candidate: Candidate, best: Candidate | None, metric: str, limits: Limits) -> str:
    """Return why a candidate was not chosen."""
    if candidate is best:
        return "chosen"
    if exceeded := candidate.exceeded(limits):
        return "; ".join(exceeded)
    if candidate.quality is None:
        return "no recorded quality"
    assert best is not None
    assert best.quality is not None
    if candidate.quality != best.quality:
        return f"worse {metric}"
    if candidate.image_ms > best.image_ms:
        return "slower, with the same quality"
    if candidate.cost.memory > best.cost.memory:
        return "more memory, with the same quality"
    return f"equal, but {best.target.title} is preferred"
