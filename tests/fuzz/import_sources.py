"""Damages sources of all layouts. ``data build`` must refuse a source, or use each sample or count it as skipped."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.datamodules.imports import layout_sources as sources
from tests.fuzz.command import run_command
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.images import fake_ghostscript


def _write_table(source: Path) -> sources.Samples:
    return sources.write_path_table(source, ".jsonl")[1]


WRITERS: dict[str, Callable[[Path], sources.Samples]] = {
    "img2dataset": sources.write_img2dataset,
    "parquet": sources.write_hugging_face_parquet,
    "coco": sources.write_coco,
    "class folders": sources.write_class_folders,
    "imagenet tars": sources.write_imagenet_tars,
    "table": _write_table,
}


def _run(given: Input) -> str:
    folder, numbers = given.folder, given.numbers
    source, out, started = folder / "source", folder / "data", fake_ghostscript(folder)
    source.mkdir()
    expected = WRITERS[given.kind](source)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for _ in range(numbers.choice((1, 1, 3))):
        _damage(numbers, numbers.choice(files))
    options = numbers.choice(([], ["--drop-duplicates", "exact"], ["--where", "score >= 0"], ["--min-side", "8"]))
    options = options if given.kind == "table" or "--where" not in options else []
    place = source / "list.jsonl" if given.kind == "table" else source
    fields = ["--caption-field", "title"] if given.kind == "table" else []
    built = run_command("data", "build", place, out, *options, *fields)
    assert not started.exists(), "Ghostscript was started"
    assert (out / "dataset.json").exists() == (built.status == 0), built.lines
    if built.status:
        assert not list(out.rglob("*.tar")), "a refused build left shards behind"
        return f"refused: {built.lines[-1]}"
    samples = sum(json.loads((out / "dataset.json").read_text())["samples"].values())
    text = "\n".join(built.lines)
    assert samples >= len(expected) or "skipped" in text or "not read" in text, built.lines
    validated = run_command("data", "validate", out)
    assert validated.status == 0, validated.lines
    return f"built: {samples} samples, {len(built.lines)} lines"


def _damage(numbers: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    match numbers.randrange(4):
        case 0 if content:
            for _ in range(numbers.choice((1, 10, 200))):
                content[numbers.randrange(len(content))] ^= numbers.randrange(1, 256)
        case 1:
            del content[numbers.randrange(len(content) + 1) :]
        case 2:
            start = numbers.randrange(len(content) + 1)
            content[start : start + numbers.choice((1, 512, 5000))] = numbers.randbytes(numbers.choice((0, 1, 512)))
        case _:
            content = bytearray(numbers.choice((b"", b"{}", b"[]", b"null", b"\0" * 2048, b"[" * 100_000, b"PAR1" * 3)))
    path.write_bytes(content)


IMPORT_SOURCES = Fuzzer("import_sources", tuple(WRITERS), _run)
