"""Expected values, through the very functions that the metrics use: ``lightning evaluate --golden FILE``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pocketdit.errors import UserError

Check = Callable[[Any], Iterator[tuple[str, str | None]]]


def check(path: Path) -> tuple[list[str], int, str | None]:
    """(names of the cases that agree, number of cases, the first that does not with what differs).

    Raises ``UserError`` where the file is none of the four forms: GenEval's logic, DPG-Bench's, T2I-CompBench's
    positions, Fréchet distances.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error})") from error
    try:
        outcomes = list(_check_of(path, data)(data))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: a case has not the form of its kind ({type(error).__name__}: {error})") from error
    agreeing = [name for name, difference in outcomes if difference is None]
    first = next((f"{name}: {difference}" for name, difference in outcomes if difference is not None), None)
    return agreeing, len(outcomes), first


def _check_of(path: Path, data: Any) -> Check:
    if isinstance(data, dict) and "relative_position" in data:
        from evaluation.metrics.geneval.logic import check_golden as geneval

        return geneval
    cases = data.get("cases") if isinstance(data, dict) else None
    keys = set(cases[0]) if isinstance(cases, list) and cases and isinstance(cases[0], dict) else set()
    if "sigma1" in keys:
        from evaluation.metrics.frechet import check_golden as frechet

        return frechet
    if "dependency" in keys:
        from evaluation.metrics.dpg.scoring import check_golden as dpg

        return dpg
    if "locality" in keys:
        from evaluation.metrics.compbench.spatial import check_golden as position

        return position
    raise UserError(f"{path}: not one of the forms geneval_logic, dpg_logic, t2i_2d_position, frechet")
