"""Connects the settings of a preference study with its design."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.preference.design import Comparison, all_pairs, noise_prompts, plan
from evaluation.preference.settings import Preference
from evaluation.preference.storage.store import Plan
from pocketdit.errors import ConfigError
from pocketdit.running.lineage import differences

# These settings determine what raters see and answer, so they cannot change once a study exists.
_DEFINING = ("subjects", "prompts", "compare", "questions", "ties", "pairs_per_rater", "seed")


def design(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """From the resolved settings, which are plain values, select those that determine what raters see."""
    checks = {name: resolved["checks"][name] for name in ("noise", "repeat")}
    return {**{key: resolved[key] for key in _DEFINING}, "checks": checks}


def require_same_design(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the design of a study has not changed since the study was created.

    Arguments that a class did not have when the study was created are ignored.

    Raises:
        ConfigError: A setting that determines what raters see has changed.
    """
    for key, (old, new) in differences(dict(before), dict(now)).items():
        if "init_args" in key.split(".") and not has_key(before, key):
            continue
        raise ConfigError(
            f"{key}: {name} was created with {old}, not {new}, so its answers would not be comparable; give this study "
            "another name: preference=NAME"
        )


def has_key(values: Any, key: str) -> bool:
    """Return whether nested mappings contain a dotted key."""
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def planner(settings: Preference, prompts: int) -> Plan:
    """Return the function that plans a rater's comparisons.

    Args:
        settings: The settings.
        prompts: Number of prompts.
    """
    pairs = all_pairs(range(prompts), settings.pairs)
    noise = all_pairs(noise_prompts(prompts, settings.seed), settings.pairs)
    hand = min(settings.pairs_per_rater, len(pairs))
    checks = settings.checks.noise, settings.checks.repeat

    def planned(rater: int) -> Sequence[Comparison]:
        return plan(pairs, hand, noise, checks, settings.seed, rater)

    return planned
