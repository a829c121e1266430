"""Win rates, Bradley-Terry scores and the agreement between raters.

The votes of a rater resemble each other, and so do the votes on a prompt. Intervals that treat votes as independent
would be too narrow. Raters and prompts are crossed: every rater votes on many prompts, and many raters vote on every
prompt. The intervals are therefore based on the two-way cluster-robust covariance of Cameron, Gelbach and Miller
(2011), and on Student's t distribution, whose degrees of freedom are the smaller number of clusters minus 1. A two-way
bootstrap would need resamples, and would overestimate the variance (Owen 2007). The covariance is that of a logistic
regression, so the intervals of win rates stay between 0 and 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import krippendorff
import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from evaluation.preference.report.votes import Vote

LEVEL = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class WinRate:
    """How often the first of two subjects is preferred.

    Attributes:
        wins: Number of votes for the first subject.
        ties: Number of ties.
        losses: Number of votes for the second subject.
        raters: Number of raters who voted.
        prompts: Number of prompts that were voted on.
        interval: Confidence interval of ``rate``, or None if there are fewer than two raters or prompts, or if all
            votes are ties.
    """

    wins: int
    ties: int
    losses: int
    raters: int
    prompts: int
    interval: Interval | None

    @property
    def rate(self) -> float:
        """Fraction of votes for the first subject, with a tie as half a vote."""
        return (self.wins + self.ties / 2) / (self.wins + self.ties + self.losses)


@dataclass(frozen=True)
class Strength:
    """The Bradley-Terry score of a subject, in log-odds. The scores of all subjects add up to 0.

    Attributes:
        value: The score.
        interval: Confidence interval of the score, or None if there are fewer than two raters or prompts, or if all
            votes are ties.
    """

    value: float
    interval: Interval | None


def win_rate(votes: Sequence[Vote], level: float = LEVEL) -> WinRate:
    """Return the win rate of the first subject. All votes must be about the same question and the same two subjects.

    If all votes are equal, they do not show how much raters and prompts differ. In that case, the interval is the exact
    one (Clopper and Pearson 1934) for as many votes as there are raters or prompts, whichever number is smaller.
    """
    values = np.array([vote.value for vote in votes])
    raters, prompts = _codes([vote.rater for vote in votes]), _codes([vote.prompt for vote in votes])
    counts = len(set(raters)), len(set(prompts))
    interval: Interval | None = None
    if min(counts) >= 2 and np.ptp(values) > 0:
        model = GLM(values, np.ones((len(values), 1)), Binomial()).fit()
        variance = clustered_variances(model, np.ones((1, 1)), raters, prompts)[0]
        interval = _expit_interval(float(model.params[0]), variance, min(counts), level)
    elif min(counts) >= 2 and values[0] != 0.5:
        exact = stats.binomtest(round(values[0] * min(counts)), min(counts)).proportion_ci(level, "exact")
        interval = float(exact.low), float(exact.high)
    wins, losses = int((values == 1).sum()), int((values == 0).sum())
    return WinRate(wins, len(values) - wins - losses, losses, *counts, interval)


def bradley_terry(votes: Sequence[Vote], subjects: Sequence[str], level: float = LEVEL) -> dict[str, Strength] | None:
    """Return the Bradley-Terry scores (Bradley and Terry 1952) of the subjects in the votes on one question.

    The probability that one subject is preferred to another is the logistic function of the difference between their
    scores. A tie is half a vote for each.

    Returns:
        A mapping from subjects to scores, or None if the scores are not finite. They are finite if there is no group of
        subjects that never loses against the others (Ford 1957).
    """
    voted = {name for vote in votes for name in (vote.first, vote.second)}
    names = [name for name in subjects if name in voted]
    index = {name: i for i, name in enumerate(names)}
    values = np.array([vote.value for vote in votes])
    first = np.array([index[vote.first] for vote in votes], dtype=int)
    second = np.array([index[vote.second] for vote in votes], dtype=int)
    losses = np.zeros((len(names), len(names)))
    np.add.at(losses, (second, first), values)
    np.add.at(losses, (first, second), 1 - values)
    if not names or sparse.csgraph.connected_components(losses, connection="strong")[0] > 1:
        return None
    if np.ptp(values) == 0:  # all votes are ties
        return {name: Strength(0.0, None) for name in names}
    design = np.zeros((len(votes), len(names)))
    np.add.at(design, (np.arange(len(votes)), first), 1.0)
    np.add.at(design, (np.arange(len(votes)), second), -1.0)
    # The scores add up to 0, so the last score is minus the sum of the others.
    basis = np.vstack([np.eye(len(names) - 1), -np.ones(len(names) - 1)])
    model = GLM(values, design @ basis, Binomial()).fit()
    scores = basis @ model.params
    raters, prompts = _codes([vote.rater for vote in votes]), _codes([vote.prompt for vote in votes])
    clusters = min(len(set(raters)), len(set(prompts)))
    if clusters < 2:
        return {name: Strength(float(scores[index[name]]), None) for name in names}
    variances = clustered_variances(model, basis, raters, prompts)
    widths = stats.t.ppf((1 + level) / 2, clusters - 1) * np.sqrt(variances)
    return {
        name: Strength(float(score), (float(score - width), float(score + width)))
        for name, score, width in zip(names, scores, widths, strict=True)
    }


def agreement(votes: Sequence[Vote]) -> float | None:
    """Return Krippendorff's alpha for the votes on one question, or None if it is not defined.

    A unit is a pair of images. The values are ordered: a tie lies between the two subjects. Alpha is 1 if raters always
    agree and 0 if they agree no more than by chance. It is not defined if no pair has two raters, or if all votes are
    equal.
    """
    raters = _codes([vote.rater for vote in votes])
    units = _codes([(vote.prompt, vote.first, vote.second) for vote in votes])
    data = np.full((max(raters, default=-1) + 1, max(units, default=-1) + 1), np.nan)
    data[raters, units] = [vote.value for vote in votes]
    shared = data[:, (~np.isnan(data)).sum(axis=0) >= 2]
    if not shared.size or np.nanmin(shared) == np.nanmax(shared):
        return None
    return float(krippendorff.alpha(shared, value_domain=[0.0, 0.5, 1.0], level_of_measurement="ordinal"))


def clustered_variances(
    model: Any, basis: NDArray[np.float64], raters: NDArray[np.int64], prompts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the variances of linear combinations of a regression's parameters, clustered by rater and by prompt.

    Each variance is the largest of the two-way variance and the two one-way variances, because the two-way variance can
    be too small or even negative (MacKinnon, Nielsen and Webb 2024).

    Args:
        model: The fitted regression.
        basis: The coefficients of the combinations, of shape (combinations, parameters).
        raters: Index of each vote's rater.
        prompts: Index of each vote's prompt.
    """
    covariances = np.array(cov_cluster_2groups(model, raters, prompts))
    return np.asarray(np.einsum("kp,cpq,kq->ck", basis, covariances, basis).max(axis=0))


def _expit_interval(center: float, variance: float, clusters: int, level: float) -> Interval:
    width = stats.t.ppf((1 + level) / 2, clusters - 1) * math.sqrt(variance)
    low, high = stats.logistic.cdf([center - width, center + width])
    return float(low), float(high)


def _codes(values: Sequence[Any]) -> NDArray[np.int64]:
    """Return the index of each value among the distinct values."""
    known = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([known[value] for value in values], dtype=np.int64)
