"""Weights for the batches that a step accumulates, so that every sample of the step counts equally."""

from collections.abc import Iterable

import torch
from torch import nn


class StepSamples:
    """Counts the samples in the batches of a step. The last batch of an image-size bucket may be smaller than the rest.

    When a batch is processed, the total number of samples in its step is not known yet. The batch's loss is therefore
    weighted relative to the first batch, and the gradients are corrected at the end of the step. If all batches have
    the same size, nothing is corrected. Each process counts its own samples.

    Args:
        accumulate: Number of batches per step.
    """

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate
        self._sizes: list[int] = []

    def share(self, samples: int) -> float:
        """Add a batch to the step, and return the factor by which to multiply its mean loss."""
        self._sizes.append(samples)
        return samples / self._sizes[0] / self.accumulate

    def normalize(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale the accumulated gradients to match the mean loss of all samples of the step, and begin a new step."""
        correction = self.accumulate * self._sizes[0] / sum(self._sizes)
        self._sizes = []
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if correction != 1 and gradients:
            torch._foreach_mul_(gradients, correction)
