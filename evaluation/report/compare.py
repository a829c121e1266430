"""Compares two reports prompt by prompt."""

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.report.results import Report, keyed
from evaluation.report.statistics import paired_comparison, strata
from pocketdit.errors import UserError

# Protocol entries that are not compared: those that describe the run rather than the metric, and "columns", which
# repeats the protocols of T2I-CompBench's columns. Each column is also compared as a separate result.
_NOT_OF_THE_METRIC = ("run", "width", "weights_sha256", "columns")


def compare(first: Report, second: Report) -> str:
    """Return the paired differences (second minus first) of all scores on the same prompts, as text.

    Metrics are compared by their overall scores, or by their categories if they have no overall score. The text also
    lists scores that cannot be compared, and settings in which the metrics or the images differ.

    Raises:
        UserError: Nothing can be compared.
    """
    lines, skipped, protocols = [f"{second.subject} minus {first.subject}"], [], []
    second_results = keyed(second.results)
    for key, result in keyed(first.results).items():
        names = ["overall"] if "overall" in result.scores else list(result.scores)
        other = second_results.get(key)
        for name in names:
            label = " ".join([*key, *([] if name == "overall" else [name])])
            if other is None or name not in other.scores or not result.scores[name].by_prompt:
                skipped.append(label)
                continue
            kind = "" if strata(result, name) and strata(other, name) else " (means over prompts)"
            lines.append(f"{label}{kind}: {paired_comparison(result, other, name)}")
        if other is not None:
            protocols += _differing_protocol(" ".join(key), result.protocol, other.protocol)
    if len(lines) == 1:
        raise UserError("the two evaluations have no metric with per-prompt values in common")
    lines += [*protocols, *_differing_settings(first, second)]
    if skipped:
        reason = "they are not in both evaluations or have no per-prompt values"
        lines.append(f"not compared, because {reason}: {', '.join(skipped)}")
    return "\n".join(lines)


def _differing_protocol(label: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Describe how a metric or its judges differ, such as in a prefix or a judge's weights."""
    before, after = (dict(_flat(protocol)) for protocol in (first, second))
    return [
        f"{label} differs in {key}: {after.get(key)} instead of {before.get(key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key) and key.partition(".")[0] not in _NOT_OF_THE_METRIC
    ]


def _flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested mappings with keys such as "judge.version"."""
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _differing_settings(first: Report, second: Report) -> list[str]:
    """Describe the settings in which the images differ, which may explain different scores. Weights are ignored."""
    lines = []
    for name in first.made.keys() & second.made.keys():
        before, after = first.made[name], second.made[name]
        lines += [
            f"images differ in {key}: {after.get(key)} instead of {before.get(key)}"
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key) and key != "weights_sha256"
        ]
    return list(dict.fromkeys(lines))
