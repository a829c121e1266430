"""Compare the outputs of an exported model with PyTorch's outputs."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the settings import Tolerance and must load without torch
    from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """The difference between an output and its reference.

    Attributes:
        output: Name of the output in messages.
        max_error: Largest absolute difference, divided by the largest absolute value of the reference.
        snr: Signal-to-noise ratio in dB: the power of the reference relative to the power of the difference. It is
            infinite for equal tensors, and minus infinity if the output is not finite.
    """

    output: str
    max_error: float
    snr: float

    def __str__(self) -> str:
        return f"{self.output:28} max error {self.max_error:.2e}   SNR {self.snr:.1f} dB"


@dataclass(frozen=True)
class Tolerance:
    """The largest allowed ``max_error`` and the smallest allowed ``snr`` in dB of a ``Comparison``."""

    max_error: float = math.inf
    min_snr: float = -math.inf

    def accepts(self, comparison: Comparison) -> bool:
        """Return whether the comparison is within both limits. NaN is never accepted."""
        return comparison.max_error <= self.max_error and comparison.snr >= self.min_snr

    def describe_violation(self, comparison: Comparison) -> str:
        """Return a message with the measured values that are outside their limits."""
        parts = []
        if not comparison.max_error <= self.max_error:
            parts.append(f"max_error is {comparison.max_error:.3g}, but at most {self.max_error:g} is allowed")
        if not comparison.snr >= self.min_snr:
            parts.append(f"SNR is {comparison.snr:.1f} dB, but at least {self.min_snr:g} dB is required")
        return f"{comparison.output}: {', '.join(parts)}"


NO_LIMIT = Tolerance()


def compare(output: str, actual: "Tensor", expected: "Tensor") -> Comparison:
    """Compare two tensors of the same shape in float64."""
    if not bool(actual.isfinite().all()):
        return Comparison(output, math.inf, -math.inf)
    error = (actual.double() - expected.double()).abs()
    largest, noise, signal = expected.abs().max(), error.square().mean(), expected.double().square().mean()
    snr = math.inf if noise == 0 else 10 * math.log10(signal / noise)
    return Comparison(output, float(error.max() / largest), snr)
