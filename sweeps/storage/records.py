"""Trials as they are stored."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from sweeps.dimensions import Scalar
from sweeps.settings import Sweep


@dataclass(frozen=True)
class TrialRecord:
    """One stored trial.

    Attributes:
        params: The parameters chosen so far.
        distributions: Optuna's distribution of each parameter.
        values: Objectives in order; None unless the trial is complete.
        attrs: User attributes; ``sweeps/storage/store.py`` lists them.
    """

    number: int
    state: TrialState
    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    values: tuple[float, ...] | None
    attrs: dict[str, Any]

    @property
    def candidate(self) -> int:
        """Number of the first trial of the search with these parameters."""
        return int(self.attrs.get("candidate", self.number))

    @property
    def outcome(self) -> str:
        """How the trial ended; empty while it waits or runs, or if its worker died."""
        return str(self.attrs.get("outcome", ""))

    @property
    def lost(self) -> bool:
        """Whether its worker died, possibly after it set the outcome and before it stored the values."""
        return self.state == TrialState.FAIL and self.outcome in ("", "complete", "pruned")

    @property
    def counts(self) -> bool:
        """Whether the trial counts toward the budget: it waits, runs, or has ended for good."""
        return self.state != TrialState.FAIL or self.outcome == "failed"


def baseline_candidates(sweep: Sweep, search: list[TrialRecord]) -> list[int]:
    """Return the candidates of the study's baselines.

    A baseline that the search had already tried keeps the number of that earlier trial.
    """
    marked = [record for record in search if record.attrs.get("baseline") in sweep.baselines]
    return list(dict.fromkeys(int(record.attrs.get("duplicate_of", record.candidate)) for record in marked))
