"""What an evaluation leaves: results.json, report.html, a grid of best, median and worst pictures for each metric."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.contract import ImageSet, Result, Score, open_image
from evaluation.report.statistics import bootstrap_interval, paired_comparison, stratified_interval
from pocketdit.errors import UserError
from pocketdit.files import write_atomically

SCHEMA = 1
_TILE, _TEXT, _COLUMNS = 160, 46, 5


@dataclass(frozen=True)
class Report:
    """``subject``: its name. ``made``: provenance of the pictures, by prompt set."""

    evaluation: str
    subject: str
    results: tuple[Result, ...]
    made: Mapping[str, Any]


def interval(result: Result, name: str, resamples: int = 1000) -> tuple[float, float] | None:
    """95 % bootstrap interval of a score over its prompts.

    Where the overall is the mean of categories that share out the prompts, prompts are drawn within their categories,
    whose number is the benchmark's choice and no chance.
    None where the number has no parts, or is no mean of them.
    """
    score = result.scores[name]
    if len(score.by_prompt) < 2:
        return None
    parts = [part for other, part in result.scores.items() if other != name] if name == "overall" else []
    prompts = [prompt for part in parts for prompt in part.by_prompt]
    # Categories that share out the prompts; noise levels, for example, each have all of them.
    if parts and all(part.by_prompt for part in parts) and sorted(prompts) == sorted(score.by_prompt):
        categories = [list(part.by_prompt.values()) for part in parts]
        if math.isclose(fmean(map(fmean, categories)), score.value, rel_tol=1e-9, abs_tol=1e-12):
            return stratified_interval(categories, resamples=resamples)
    if math.isclose(fmean(score.by_prompt.values()), score.value, rel_tol=1e-9, abs_tol=1e-12):
        return bootstrap_interval(list(score.by_prompt.values()), resamples=resamples)
    return None


def save(report: Report, folder: Path, resamples: int) -> Path:
    """Writes results.json; the file by which ``load`` and comparisons find it again."""
    content: dict[str, Any] = {"schema": SCHEMA, **asdict(report)}
    for entry, result in zip(content["results"], report.results, strict=True):
        for name in result.scores:
            entry["scores"][name]["interval_95"] = interval(result, name, resamples)
    return write_atomically(folder / "results.json", json.dumps(content, indent=1, default=str) + "\n")


def load(path: Path) -> Report:
    """From results.json or its folder; ``UserError`` where it is none."""
    file = path / "results.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text())
        if data.get("schema") != SCHEMA:
            raise UserError(f"{file}: results of schema {data.get('schema')}, this program reads {SCHEMA}")
        results = tuple(
            Result(
                entry["metric"],
                {
                    name: Score(score["value"], score["samples"], score["by_prompt"])
                    for name, score in entry["scores"].items()
                },
                entry["protocol"],
                entry["higher_is_better"],
            )
            for entry in data["results"]
        )
        return Report(data["evaluation"], data["subject"], results, data["made"])
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); evaluate the run first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: no results of an evaluation ({error})") from error


def table(report: Report, resamples: int) -> str:
    """Text: every score with its interval and sample count."""
    rows = [("metric", "score", "value", "95 % interval", "pictures")]
    for result in report.results:
        for name, score in result.scores.items():
            between = interval(result, name, resamples)
            shown = f"{between[0]:.4f} to {between[1]:.4f}" if between else "-"
            rows.append((result.metric, name, f"{score.value:.4f}", shown, str(score.samples)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(widths[i]) if i < 2 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


def write_html(report: Report, images: Sequence[ImageSet | None], folder: Path, resamples: int) -> Path:
    """report.html and the grids that it shows, beside it. ``images``: what each result is of, None where of none."""
    parts = [f"<h1>{html.escape(report.evaluation)}: {html.escape(report.subject)}</h1>"]
    for number, (result, drawn) in enumerate(zip(report.results, images, strict=True)):
        parts.append(f"<h2>{html.escape(result.metric)}</h2>")
        parts.append("<table><tr><th>score</th><th>value</th><th>95 % interval</th><th>pictures</th></tr>")
        for name, score in result.scores.items():
            between = interval(result, name, resamples)
            shown = f"{between[0]:.4f} to {between[1]:.4f}" if between else "&ndash;"
            parts.append(
                f"<tr><td>{html.escape(name)}</td><td>{score.value:.4f}</td><td>{shown}</td>"
                f"<td>{score.samples}</td></tr>"
            )
        parts.append("</table>")
        if drawn is not None and (grid := draw_grid(result, drawn)):
            name = f"grid-{number}.png"
            grid.save(folder / name)
            parts.append(f'<p>best, median and worst prompts:</p><img src="{name}" alt="best, median, worst">')
        protocol = json.dumps(result.protocol, indent=1, default=str)
        parts.append(f"<details><summary>protocol</summary><pre>{html.escape(protocol)}</pre></details>")
    made = json.dumps(report.made, indent=1, default=str)
    parts.append(
        f"<h2>pictures</h2><details><summary>how they were made</summary><pre>{html.escape(made)}</pre></details>"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(report.evaluation)}: {html.escape(report.subject)}</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}pre{white-space:pre-wrap}"
        f"</style></head><body>{''.join(parts)}</body></html>\n"
    )
    return write_atomically(folder / "report.html", page)


def draw_grid(result: Result, images: ImageSet) -> Image.Image | None:
    """Rows of the best, the median and the worst prompts' first pictures; None where prompts have no values."""
    overall = result.scores.get("overall") or next(iter(result.scores.values()))
    if not overall.by_prompt:
        return None
    sign = 1 if result.higher_is_better else -1
    ranked = sorted(overall.by_prompt, key=lambda name: (-sign * overall.by_prompt[name], name))
    count = min(_COLUMNS, len(ranked))
    middle = (len(ranked) - count) // 2
    rows = [("best", ranked[:count]), ("median", ranked[middle : middle + count]), ("worst", ranked[-count:])]
    texts = {prompt.id: prompt.text for prompt in images.prompts.prompts}
    sheet = Image.new("RGB", (60 + count * _TILE, len(rows) * (_TILE + _TEXT)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for row, (title, names) in enumerate(rows):
        top = row * (_TILE + _TEXT)
        pen.text((4, top + _TILE // 2), title, "black", font)
        for column, name in enumerate(names):
            left = 60 + column * _TILE
            picture = Image.fromarray(open_image(images.images[name][0]))
            picture.thumbnail((_TILE - 6, _TILE - 6))
            sheet.paste(picture, (left, top))
            shown = _wrapped(f"{overall.by_prompt[name]:.3f}  {texts[name]}", pen, font, _TILE - 8, lines=2)
            pen.multiline_text((left, top + _TILE - 4), shown, "black", font, spacing=1)
    return sheet


def _wrapped(text: str, pen: ImageDraw.ImageDraw, font: Any, width: int, lines: int) -> str:
    """At most ``lines`` lines of ``width`` pixels, the rest left out."""
    rows = [""]
    for word in text.split(" "):
        if rows[-1] and pen.textlength(f"{rows[-1]} {word} ...", font) > width:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}" if rows[-1] else word
    cut = "\n".join(rows[:lines])
    return f"{cut} ..." if len(rows) > lines else cut


def compare(first: Report, second: Report) -> str:
    """Text: paired differences (second minus first) of all that both scored on the same prompts, and what they did not.

    A metric's overall, or its categories where it has none.
    """
    lines, left_out = [f"{second.subject} minus {first.subject}"], []
    theirs = {identity(result): result for result in second.results}
    for result in first.results:
        key = identity(result)
        names = ["overall"] if "overall" in result.scores else list(result.scores)
        for name in names:
            label = " ".join([result.metric, *key[1:], *([] if name == "overall" else [name])])
            if key in theirs and result.scores[name].by_prompt:
                lines.append(f"{label}: {paired_comparison(result, theirs[key], name)}")
            else:
                left_out.append(label)
    if len(lines) == 1:
        raise UserError("the two evaluations share no metric with values by prompt")
    return "\n".join(
        [
            *lines,
            *differing(first, second),
            *([f"not compared (not in both, or no values by prompt): {', '.join(left_out)}"] if left_out else []),
        ]
    )


def differing(first: Report, second: Report) -> list[str]:
    """What besides chance may be behind a difference: settings by which the pictures were not made alike."""
    lines = []
    for name in first.made.keys() & second.made.keys():
        one, other = first.made[name], second.made[name]
        lines += [f"made with other {key}: {other.get(key)} against {one.get(key)}" for key in sorted({*one, *other})
                  if one.get(key) != other.get(key) and key != "weights_sha256"]  # fmt: skip
    return list(dict.fromkeys(lines))


def identity(result: Result) -> tuple[str, ...]:
    """What tells two results of one report apart: metric, category, prompt set."""
    keys = ("category", "prompt_set", "prompts")
    return (result.metric, *(value for key in keys if isinstance(value := result.protocol.get(key), str)))


def summary(results: Sequence[Result]) -> dict[str, float]:
    """{"metric/score": value} for MLflow, with the prompt set where a metric comes twice; not-a-number left out."""
    names = [result.metric for result in results]
    labels = [" ".join(identity(result)) if names.count(result.metric) > 1 else result.metric for result in results]
    return {
        f"{label}/{name}": score.value
        for label, result in zip(labels, results, strict=True)
        for name, score in result.scores.items()
        if np.isfinite(score.value)
    }
