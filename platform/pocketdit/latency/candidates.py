"""Operating points with their quality and cost, and the choice of the best one within the limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pocketdit.latency.quality import OperatingPoint
from pocketdit.latency.settings import Limits

CostSource = Literal["measured", "predicted", "predicted, no bundle"]


@dataclass(frozen=True)
class Cost:
    """The cost of one width.

    Attributes:
        milliseconds: Milliseconds per evaluation of the transformer.
        low: Lower end of the prediction interval or of the spread of the measurements.
        high: Upper end of the prediction interval or of the spread of the measurements.
        decoder: Milliseconds per evaluation of the decoder, or 0 if unknown.
        memory: Lower bound on the memory of the running transformer in bytes.
        source: Whether the latency was measured or predicted. Without a bundle, it is predicted from the description of
            the network.
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
    """An operating point with its quality and the cost of its width."""

    point: OperatingPoint
    quality: float
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

    def fits(self, limits: Limits) -> bool:
        """Return whether the cost is within the limits."""
        return (
            self.step_ms <= limits.step_ms
            and self.image_ms <= limits.image_ms
            and self.cost.memory <= limits.memory_bytes
        )

    def is_uncertain(self, limits: Limits) -> bool:
        """Return whether the candidate fits at one end of the interval but not at the other."""
        low, high = (
            replace(self, cost=replace(self.cost, milliseconds=end)) for end in (self.cost.low, self.cost.high)
        )
        return low.fits(limits) != high.fits(limits)


def choose_best(candidates: Sequence[Candidate], higher_is_better: bool, limits: Limits) -> Candidate | None:
    """Return the candidate with the best quality within the limits, or None if no candidate fits.

    If several candidates have the same quality, the one with the lowest latency per image is chosen.
    """
    sign = 1 if higher_is_better else -1
    fitting = [candidate for candidate in candidates if candidate.fits(limits)]
    return max(fitting, key=lambda candidate: (sign * candidate.quality, -candidate.image_ms), default=None)
