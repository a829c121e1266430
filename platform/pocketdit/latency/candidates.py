"""Operating points with their quality and cost, and the best one within limits."""

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
        milliseconds: One evaluation of the transformer.
        low: Lower end of the prediction interval, or of the measurement's spread.
        high: Upper end of the same.
        decoder: Milliseconds of the decoder, 0 if unknown.
        memory: Memory of the running transformer in bytes.
        source: Where the figures are from. Without a bundle, they are predicted from the network's description.
        batch: Batch size of the evaluation.
        note: What the prediction does not cover, or the compute units of the measurement.
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
        """Graph evaluations per denoising step. A graph of batch 2 computes both halves of guidance at once."""
        return self.point.evaluations_per_step / min(self.cost.batch, 2 if self.point.guidance != 1 else 1)

    @property
    def step_ms(self) -> float:
        """Milliseconds per denoising step."""
        return self.evaluations_per_step * self.cost.milliseconds

    @property
    def image_ms(self) -> float:
        """Milliseconds per image: all steps and the decoder."""
        return self.point.steps * self.step_ms + self.cost.decoder

    def fits(self, limits: Limits) -> bool:
        """Whether the predicted or measured cost is within the limits."""
        return (
            self.step_ms <= limits.step_ms
            and self.image_ms <= limits.image_ms
            and self.cost.memory <= limits.memory_bytes
        )

    def is_uncertain(self, limits: Limits) -> bool:
        """Whether the candidate fits at one end of the interval only."""
        low, high = (
            replace(self, cost=replace(self.cost, milliseconds=end)) for end in (self.cost.low, self.cost.high)
        )
        return low.fits(limits) != high.fits(limits)


def choose_best(candidates: Sequence[Candidate], higher_is_better: bool, limits: Limits) -> Candidate | None:
    """The candidate with the best quality within the limits, ties going to the fastest per image. None if none fits."""
    sign = 1 if higher_is_better else -1
    fitting = [candidate for candidate in candidates if candidate.fits(limits)]
    return max(fitting, key=lambda candidate: (sign * candidate.quality, -candidate.image_ms), default=None)
