"""Paired comparison of two reports."""

from evaluation.report.results import Report, identity
from evaluation.report.statistics import paired_comparison
from pocketdit.errors import UserError


def compare(first: Report, second: Report) -> str:
    """Return the paired differences (second minus first) of all scores on the same prompts, as text.

    Metrics are compared by their overall scores, or by their categories if they have no overall score. The text also
    lists scores that cannot be compared, and settings in which the images differ.

    Raises:
        UserError: Nothing can be compared.
    """
    lines, skipped = [f"{second.subject} minus {first.subject}"], []
    second_results = {identity(result): result for result in second.results}
    for result in first.results:
        key = identity(result)
        names = ["overall"] if "overall" in result.scores else list(result.scores)
        for name in names:
            label = " ".join([result.metric, *key[1:], *([] if name == "overall" else [name])])
            if key in second_results and result.scores[name].by_prompt:
                lines.append(f"{label}: {paired_comparison(result, second_results[key], name)}")
            else:
                skipped.append(label)
    if len(lines) == 1:
        raise UserError("the two evaluations have no metric with values by prompt in common")
    lines += _differing_settings(first, second)
    if skipped:
        lines.append(f"not compared (not in both, or no values by prompt): {', '.join(skipped)}")
    return "\n".join(lines)


def _differing_settings(first: Report, second: Report) -> list[str]:
    """Describe the settings in which the images differ, which may explain a difference. Weights are ignored."""
    lines = []
    for name in first.made.keys() & second.made.keys():
        before, after = first.made[name], second.made[name]
        lines += [
            f"images differ in {key}: {after.get(key)} instead of {before.get(key)}"
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key) and key != "weights_sha256"
        ]
    return list(dict.fromkeys(lines))
