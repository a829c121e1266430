"""Simulates how often prediction intervals contain the latency of a new graph.

In each draw, the measured latency of every graph is simulated from a random true coefficient and a random error. The
model is fitted to the ladder's latencies. Then each kind of prediction interval is computed for one more graph and
compared with its latency.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketdit.latency.fit import COVERAGE

Array = NDArray[np.float64]
Errors = Callable[[np.random.Generator, tuple[int, int]], Array]

SPREAD = 0.2  # standard deviation of a log error, as in the fit to the paper's ladder


def normal(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw normal errors."""
    return SPREAD * random.standard_normal(shape)


def heavy_tailed(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw errors from Student's t distribution with two degrees of freedom."""
    return SPREAD * random.standard_t(2, shape)


def two_kinds(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw small errors for about half of the graphs, and large errors for the others."""
    scale = np.where(random.random(shape) < 0.5, 0.1 * SPREAD, 2.0 * SPREAD)
    result: Array = scale * random.standard_normal(shape)
    return result


ERRORS: Mapping[str, Errors] = {"normal": normal, "heavy tails": heavy_tailed, "two kinds": two_kinds}


@dataclass(frozen=True)
class Curves:
    """The log latency of each graph as a function of the log of one coefficient.

    Attributes:
        logs: G values of the coefficient's log (G,).
        values: Log latencies (G, N) of N graphs. The last graph is the new one.
    """

    logs: Array
    values: Array


class Coverage(NamedTuple):
    """The share of draws in which each kind of interval contains the new graph's latency."""

    regression: float
    """Interval from Student's t distribution and the residuals of the fit."""
    left_out: float
    """Interval from left-out errors."""


def simulate(curves: Curves, errors: Errors, draws: int, seed: int = 0) -> Coverage:
    """Simulate measurements of all graphs, and return the coverage of both kinds of intervals."""
    from scipy.stats import t as student

    random = np.random.default_rng(seed)
    known = curves.values.shape[1] - 1
    hits = np.zeros(2)
    middle = len(curves.logs) // 4
    for error in errors(random, (draws, known + 1)):
        truth = curves.values[random.integers(middle, 3 * middle)]
        measured = truth + error
        every = list(range(known))
        best = fit(curves, measured, every)
        residuals = curves.values[best, :known] - measured[:known]
        left_out = [curves.values[fit(curves, measured, [k for k in every if k != i]), i] - measured[i] for i in every]
        rank = int(np.ceil(COVERAGE * (known + 1) - 1e-9))
        half = np.sort(np.abs(left_out))[rank - 1]
        slopes = (curves.values[best + 1] - curves.values[best - 1]) / (curves.logs[best + 1] - curves.logs[best - 1])
        leverage = slopes[known] ** 2 / (slopes[:known] ** 2).sum()
        spread = np.sqrt((residuals**2).sum() / (known - 1) * (1 + leverage))
        distance = abs(curves.values[best, known] - measured[known])
        hits += distance <= student.ppf((1 + COVERAGE) / 2, known - 1) * spread, distance <= half
    return Coverage(*(hits / draws))


def fit(curves: Curves, measured: Array, graphs: Sequence[int]) -> int:
    """Return the index of the coefficient, except the first and last, that best fits the latencies of ``graphs``."""
    squares = ((curves.values[:, graphs] - measured[graphs]) ** 2).sum(axis=1)
    return int(np.clip(np.argmin(squares), 1, len(curves.logs) - 2))
