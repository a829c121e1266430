"""``lightning evaluate``: pictures once, then every metric on them once, then a report."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.contract import ImageSet, PromptSet, Result, Score
from evaluation.report import paper_tables
from evaluation.report import results as report
from evaluation.settings import Evaluation
from evaluation.subjects.images import fingerprint, share_of_environment
from pocketdit.config.component import Component, build
from pocketdit.config.load import Loaded
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import write_atomically

Scored = tuple[Result, ImageSet | None]


def evaluate(loaded: Loaded[Evaluation]) -> Path | None:
    """Runs the evaluation; returns the folder of its report, None on ranks that only drew pictures."""
    settings = loaded.config
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {settings.out} cannot be a folder ({error.strerror})") from error
    subject = build(settings.subject)
    sets = {name: prompts_of(component) for name, component in used_prompts(settings).items()}
    if share_of_environment().rank == 0:
        for component in settings.metrics:
            build(component)  # what a judge lacks shows before hours of drawing, not after
    images = {name: subject.images(prompts, settings.out / "images") for name, prompts in sets.items()}
    if share_of_environment().rank > 0:
        return None
    scored: list[Scored] = []
    for component in settings.metrics:
        wanted = component.init_args.get("prompts")
        scored.append(score(component, images.get(wanted) if wanted else None, settings.out / "scored"))
    results = [result for result, _ in scored]
    results += derived(results)
    made = {name: dict(image_set.provenance) for name, image_set in images.items()}
    found = report.Report(settings.evaluation, subject.name, tuple(results), made)
    of_prompts = {name: dataclasses.asdict(image_set.prompts) for name, image_set in images.items()}
    slug = re.sub(r"[^\w.-]+", "_", subject.name)
    folder = (
        settings.out
        / settings.evaluation
        / f"{slug}-{fingerprint([made, plain(loaded.config)['metrics'], of_prompts, settings.resamples])[:8]}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.yaml", loaded.to_yaml())
    report.save(found, folder, settings.resamples)
    drawn = [image_set for _, image_set in scored] + [None] * (len(results) - len(scored))
    report.write_html(found, drawn, folder, settings.resamples)
    print(report.table(found, settings.resamples))
    track(settings, found, folder)
    return folder


def used_prompts(settings: Evaluation) -> dict[str, Component]:
    """The prompt sets that a metric asks for."""
    wanted = {metric.init_args.get("prompts") for metric in settings.metrics}
    return {name: component for name, component in settings.prompts.items() if name in wanted}


def prompts_of(component: Component) -> PromptSet:
    prompts: PromptSet = build(component).load()
    return prompts


def score(component: Component, images: ImageSet | None, kept: Path) -> Scored:
    """A metric's result, from ``kept`` where the same metric has scored the same pictures before.

    The same means: settings, files that they name, pictures, prompts, and this project's code and weights for
    evaluation.
    """
    if images is None:
        return build(component).measure(), None
    settings = plain(component)
    about = {
        "metric": settings,
        "files": {text: state_of(Path(text)) for text in texts_in(settings) if Path(text).exists()},
        "made": images.provenance,
        "prompts": dataclasses.asdict(images.prompts),
        "pictures": {name: [state_of(path) for path in paths] for name, paths in images.images.items()},
        "code": [hashlib.sha256(path.read_bytes()).hexdigest() for path in code_files()],
    }
    file = kept / f"{fingerprint(about)[:24]}.json"
    if file.is_file():
        return read(file), images
    metric = build(component)
    print(f"scoring {component.class_path.rpartition('.')[2]} on {sum(map(len, images.images.values()))} pictures")
    result: Result = metric.score(images)
    kept.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(dataclasses.asdict(result), default=str))
    return result, images


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a configuration but those under ``kept``, where a metric itself keeps what it made."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in([item for name, item in value.items() if name != "kept"])
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def state_of(path: Path) -> list[Any]:
    """Size and time of a file, or of the files of a folder: they change when the content is replaced."""
    if path.is_dir():
        return [[child.name, *state_of(child)] for child in sorted(path.iterdir()) if child.is_file()]
    return [path.stat().st_size, path.stat().st_mtime_ns]


def code_files() -> list[Path]:
    """The evaluation's own modules and shipped weights."""
    here = Path(__file__).parent
    return sorted([*here.rglob("*.py"), *here.rglob("*.safetensors")])


def read(file: Path) -> Result:
    entry = json.loads(file.read_text())
    scores = {name: Score(**score) for name, score in entry["scores"].items()}
    return Result(entry["metric"], scores, entry["protocol"], entry["higher_is_better"])


def derived(results: list[Result]) -> list[Result]:
    """T2I-CompBench's overall, where each of its columns was scored once."""
    from evaluation.metrics.compbench.categories import BENCHMARK, COLUMNS
    from evaluation.metrics.compbench.metric import overall

    columns = [
        result
        for result in results
        if paper_tables.base_name(result) == BENCHMARK and result.protocol.get("category") in COLUMNS
    ]
    return [overall(columns)] if sorted(r.protocol["category"] for r in columns) == sorted(COLUMNS) else []


def track(settings: Evaluation, found: report.Report, folder: Path) -> None:
    """Journals the results in the folder and copies them to MLflow; a dead server costs nothing but the copy."""
    from pocketdit.tracking import journal, target
    from pocketdit.tracking.git import revision
    from pocketdit.tracking.sync import sync

    log = journal.Journal(folder / journal.FILE_NAME)
    target.open_target(
        folder, settings.tracking.uri, settings.tracking.project, f"{settings.evaluation}: {found.subject}"
    )
    log.log_tag("kind", "evaluation")
    if (code := revision(Path(__file__).parent)) is not None:
        log.log_tag("git.commit", code["commit"])
    for name, made in found.made.items():
        for key, value in made.items():
            log.log_param(f"{name}.{key}", str(value)[:500])
    log.log_metrics(report.summary(found.results), step=0)
    for path in sorted([*folder.glob("report.html"), *folder.glob("grid-*.png"), *folder.glob("results.json")]):
        log.log_artifact(path.name)
    log.log_status("FINISHED")
    log.close()
    try:
        sync(folder)
    except RunError as error:
        print(f"MLflow: {error}; send it later with: lightning sync {folder}")


def tables(out: Path) -> str:
    """The paper's tables with every result under ``out`` in them, one numbered row a folder of results and a judge."""
    found = {path.parent.name: report.load(path) for path in sorted(out.rglob("results.json"))}
    if not found:
        raise UserError(f"{out}: no results of evaluations below it")
    texts, notes = [], ["paper: printed in arXiv 2601.08303, not measured here"]
    for table in paper_tables.TABLES:
        ours = {}
        for folder, one in found.items():
            for name, row in paper_tables.our_rows(table, one.results).items():
                ours[f"[{len(notes)}] {one.subject}"] = row
                pictures = sorted({s.samples for r in one.results for s in r.scores.values() if r.metric in name})
                counted = f"{pictures[0]} to {pictures[-1]}" if len(pictures) > 1 else "".join(map(str, pictures))
                notes.append(f"[{len(notes)}] {name}, {counted or 'few'} pictures, from {folder}")
        texts.append(paper_tables.render_table(table, ours))
    return "\n\n".join([*texts, "\n".join(notes)])


def compare(first: Path, second: Path) -> str:
    return report.compare(report.load(first), report.load(second))


def check_golden(path: Path) -> None:
    """Prints how many expected values of a file agree; ``RunError`` with the first that does not."""
    from evaluation.report.golden import check

    agreeing, cases, first = check(path)
    print(f"{len(agreeing)} of {cases} agree")
    if first is not None:
        raise RunError(f"{path}: {first}")
    if not cases:
        raise UserError(f"{path}: holds no cases")
