"""Explains why a task runs."""

from collections.abc import Mapping

from pocketdit.commands.recipe.preparation import CODE
from pocketdit.commands.recipe.records import Record, current_digest

MAX_SHOWN = 3
MAX_VALUE = 40  # characters


def reason_to_run(record: Record | None, inputs: Mapping[str, str], is_partial: bool) -> str | None:
    """Return the reason why a task must run, or None if its result is up to date.

    Args:
        record: The record of the last time that the task finished, or None if it has never finished.
        inputs: The task's current inputs.
        is_partial: Whether an attempt with the current inputs was interrupted.
    """
    if is_partial:
        return "it was interrupted"
    if record is None:
        return "it has not run yet"
    if changes := changed_inputs(record.inputs, inputs):
        return "; ".join(changes)
    digest = current_digest(record.output)
    if digest is None:
        return f"{record.output.folder} is incomplete or no longer exists"
    return None


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Describe the differences between two sets of inputs."""
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    modules = sorted(key.removeprefix(CODE) for key in changed if key.startswith(CODE))
    outputs = [key for key in changed if key.startswith("output of ")]
    settings = [key for key in changed if key not in outputs and not key.startswith(CODE)]
    texts = [f"{key}: {shown(before.get(key))} -> {shown(now.get(key))}" for key in settings[:MAX_SHOWN]]
    if len(settings) > MAX_SHOWN:
        texts.append(f"{len(settings) - MAX_SHOWN} further settings changed")
    texts += [f"the {key} changed" for key in outputs]
    if modules:
        more = f" and {len(modules) - MAX_SHOWN} more" if len(modules) > MAX_SHOWN else ""
        texts.append(f"the code of {', '.join(modules[:MAX_SHOWN])}{more} changed")
    return texts


def shown(value: str | None) -> str:
    """Format the value of an input for a message, and shorten it if necessary."""
    if value is None:
        return "none"
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}..."
