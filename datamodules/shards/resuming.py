"""Decides whether a run can continue at the exact sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError

# Values of settings that checkpoints of earlier versions do not record.
_DEFAULTS = {"buckets": "aspect", "order": 1}


def order_changes(
    path: Path | str, recorded: Mapping[str, Any], current: Mapping[str, Any], *, allow_changes: bool
) -> dict[str, str]:
    """Compare the settings that determine the order of the data with those in the checkpoint.

    Args:
        path: The data set.
        recorded: The state in the checkpoint.
        current: The current settings.
        allow_changes: Accept changed settings instead of raising an error.

    Returns:
        A mapping from each changed setting to a description with both values.

    Raises:
        RunError: A setting has changed, or another data module saved the checkpoint.
    """
    recorded = {**_DEFAULTS, **recorded}
    if missing := [key for key in ("batches", "samples", *current) if key not in recorded]:
        raise RunError(
            f"{path}: cannot resume: the checkpoint does not record {missing[0]!r}, so another data module "
            "saved it; start a new run"
        )
    changed = {
        key: f"{key} was {recorded[key]}, now {value}" for key, value in current.items() if value != recorded[key]
    }
    if changed and not allow_changes:
        raise RunError(
            f"{path}: cannot resume at the exact sample: {'; '.join(changed.values())}; "
            "restore the previous values, or pass --allow-changes to resume with different samples"
        )
    return changed
