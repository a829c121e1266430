"""Records of stored trials."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from sweeps.dimensions import Scalar
from sweeps.settings import Sweep


@dataclass(frozen=True)
class TrialRecord:
    """A stored trial.

    Attributes:
        number: Number of the trial in its Optuna study.
        state: Optuna's state of the trial.
        params: The parameters chosen so far.
        distributions: Optuna's distribution of each parameter.
        values: Values of the objectives, in order; None unless the trial is complete.
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
        """How the trial ended; empty if it is waiting or running, or if its worker died."""
        return str(self.attrs.get("outcome", ""))

    @property
    def lost(self) -> bool:
        """Whether the trial's worker died, possibly between recording the outcome and storing the values."""
        return self.state == TrialState.FAIL and self.outcome in ("", "complete", "pruned")

    @property
    def counts(self) -> bool:
        """Whether the trial counts toward the budget. Infeasible, interrupted, and lost trials do not."""
        return self.state != TrialState.FAIL or self.outcome == "failed"


def baseline_candidates(sweep: Sweep, search: list[TrialRecord]) -> list[int]:
    """Return the candidates of the study's baselines.

    If an earlier trial of the search has a baseline's parameters, that trial is the candidate.
    """
    marked = [record for record in search if record.attrs.get("baseline") in sweep.baselines]
    return list(dict.fromkeys(int(record.attrs.get("duplicate_of", record.candidate)) for record in marked))
