"""Paired comparison of two reports."""

from evaluation.report.results import Report, identity
from evaluation.report.statistics import paired_comparison
from pocketdit.errors import UserError


def compare(first: Report, second: Report) -> str:
    """Return, as text, the paired differences (second minus first) of everything scored on the same prompts.

    A metric is compared by its overall score, or by its categories if it has none. The text also lists what could
    not be compared, and settings by which the images differ.

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
        raise UserError("the two evaluations share no metric with values by prompt")
    lines += _differing_settings(first, second)
    if skipped:
        lines.append(f"not compared (not in both, or no values by prompt): {', '.join(skipped)}")
    return "\n".join(lines)


def _differing_settings(first: Report, second: Report) -> list[str]:
    """Describe settings other than the weights by which the images differ, and which may explain a difference."""
    lines = []
    for name in first.made.keys() & second.made.keys():
        one, other = first.made[name], second.made[name]
        lines += [
            f"images differ in {key}: {other.get(key)} against {one.get(key)}"
            for key in sorted({*one, *other})
            if one.get(key) != other.get(key) and key != "weights_sha256"
        ]
    return list(dict.fromkeys(lines))
