"""Checks the functions of the metrics against expected values, for ``lightning evaluate --golden FILE``."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError, UserError

# Takes the contents of a file, and yields the name of each case with a description of the difference, or with None if
# the case agrees.
Check = Callable[[Any], Iterator[tuple[str, str | None]]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of checking the cases in a file.

    Attributes:
        agreeing: Number of cases that agree.
        cases: Number of cases.
        first_difference: Name and description of the first case that differs, or None.
    """

    agreeing: int
    cases: int
    first_difference: str | None


def compare_file(path: Path) -> Outcome:
    """Check the cases in a file.

    Raises:
        UserError: The file cannot be read or does not have one of the known formats: GenEval's logic, GenEval 2's
            scores, DPG-Bench's logic, T2I-CompBench's positions and numbers of objects, or Fréchet distances.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    try:
        outcomes = list(_check_for(path, data)(data))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: a case is malformed ({type(error).__name__}: {error})") from error
    differences = [f"{name}: {difference}" for name, difference in outcomes if difference is not None]
    return Outcome(len(outcomes) - len(differences), len(outcomes), next(iter(differences), None))


def print_outcome(path: Path) -> None:
    """Check the cases in a file and print how many of them agree.

    Raises:
        RunError: A case differs.
        UserError: The file contains no cases or is invalid (see ``compare_file``).
    """
    outcome = compare_file(path)
    print(f"{outcome.agreeing} of {outcome.cases} agree")
    if outcome.first_difference is not None:
        raise RunError(f"{path}: {outcome.first_difference}")
    if not outcome.cases:
        raise UserError(f"{path}: contains no cases")


def _check_for(path: Path, data: Any) -> Check:
    if isinstance(data, dict) and "relative_position" in data:
        from evaluation.metrics.geneval.logic import check_golden as check_geneval

        return check_geneval
    cases = data.get("cases") if isinstance(data, dict) else None
    keys = set(cases[0]) if isinstance(cases, list) and cases and isinstance(cases[0], dict) else set()
    if "sigma1" in keys:
        from evaluation.metrics.frechet import check_golden as check_frechet

        return check_frechet
    if "dependency" in keys:
        from evaluation.metrics.dpg.scoring import check_golden as check_dpg

        return check_dpg
    if "locality" in keys:
        from evaluation.metrics.compbench.spatial import check_golden as check_position

        return check_position
    if "asked" in keys:
        from evaluation.metrics.compbench.numeracy import check_golden as check_numeracy

        return check_numeracy
    if "soft_tifa_am" in keys:
        from evaluation.metrics.geneval2.soft_tifa import check_golden as check_soft_tifa

        return check_soft_tifa
    raise UserError(
        f"{path}: not in one of the formats geneval_logic, geneval2_soft_tifa, dpg_logic, t2i_2d_position, "
        "t2i_numeracy, frechet"
    )
