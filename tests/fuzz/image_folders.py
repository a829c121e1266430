"""Damages folders of images with captions.

``data build`` must either refuse the folder, or use or skip each image and report those that it skips.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from datamodules.shards.images import IMAGE_SUFFIXES
from tests.fuzz.command import run_command
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.images import EPS, fake_ghostscript, huge_png, image_bytes

IMAGES = 6

Damage = Callable[[random.Random, Path], None]


def _run(given: Input) -> str:
    folder, numbers = given.folder, given.numbers
    source, out, started = folder / "images", folder / "data", fake_ghostscript(folder)
    source.mkdir()
    for number in range(IMAGES):
        (source / f"{number}.png").write_bytes(image_bytes("PNG"))
        (source / f"{number}.txt").write_text(f"image {number}")
    for _ in range(numbers.choice((1, 1, 3))):
        DAMAGES[given.kind](numbers, source)
    images = sum(path.is_file() for path in source.iterdir() if path.suffix in IMAGE_SUFFIXES)
    built = run_command("data", "build", source, out)
    assert not started.exists(), "Ghostscript was started"
    assert (out / "dataset.json").exists() == (built.status == 0), built.lines
    if built.status:
        assert not list(out.rglob("*.tar")), "a failed build left shards behind"
        return f"refused: {built.lines[-1]}"
    samples = sum(json.loads((out / "dataset.json").read_text())["samples"].values())
    assert samples >= images or "skipped" in "\n".join(built.lines), built.lines
    validated = run_command("data", "validate", out)
    assert validated.status == 0, validated.lines
    return f"built: {samples} samples, {len(built.lines)} lines"


def _image(numbers: random.Random, source: Path) -> Path:
    return source / f"{numbers.randrange(IMAGES)}.png"


def _flip_bytes(numbers: random.Random, source: Path) -> None:
    path = numbers.choice((_image(numbers, source), _image(numbers, source).with_suffix(".txt")))
    content = bytearray(path.read_bytes())
    for _ in range(numbers.choice((1, 10, 200))):
        content[numbers.randrange(len(content))] ^= numbers.randrange(1, 256)
    path.write_bytes(content)


def _replace_image(numbers: random.Random, source: Path) -> None:
    others = [image_bytes(kind) for kind in ("GIF", "BMP", "TIFF", "EPS", "PDF", "PPM", "ICO")]
    content = numbers.choice((*others, EPS, b"", numbers.randbytes(999), huge_png(), image_bytes("PNG")[:-9]))
    suffix = numbers.choice((".png", ".jpg", ".tif", ".gif", ".webp", ".avif", ".bmp"))
    path = _image(numbers, source)
    path.unlink(missing_ok=True)
    path.with_suffix(suffix).write_bytes(content)


def _replace_file(numbers: random.Random, source: Path) -> None:
    path = numbers.choice((_image(numbers, source), _image(numbers, source).with_suffix(".txt")))
    if not path.is_symlink() and path.is_dir():
        return
    path.unlink(missing_ok=True)
    match numbers.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to("missing")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.mkdir()


def _replace_caption(numbers: random.Random, source: Path) -> None:
    depth = numbers.choice((900, 100_000))
    texts = (
        b"",
        b" \n",
        b"\xff\xfe\x00",
        numbers.randbytes(50),
        b"a\0b",
        b"\x1b[2J",
        b"a\n" * 5000,
        "é".encode("utf-16"),
    )
    jsons = (b"[" * depth, b"{}", b"[]", b"1", b'{"caption": 3}', b'{"caption": "\\ud83d"}', b'{"captions": [[]]}')
    path = _image(numbers, source)
    if numbers.random() < 0.5:
        path.with_suffix(".txt").unlink(missing_ok=True)
        path.with_suffix(".json").write_bytes(numbers.choice(jsons))
    else:
        path.with_suffix(".txt").write_bytes(numbers.choice(texts))


def _add_table(numbers: random.Random, source: Path) -> None:
    for path in source.glob("*.txt"):
        path.unlink()
    rows = [f"{i}.png,image {i}" for i in range(IMAGES)]
    odd = (
        "a.png,b,c",
        '0.png,"open',
        ",",
        "0.png",
        "\0",
        "missing.png,x",
        "../../etc/passwd,x",
        "/dev/zero,x",
        "0.png,",
    )
    rows.insert(numbers.randrange(IMAGES), numbers.choice(odd))
    header = numbers.choice(
        ("file_name,text", "file,caption", "file,file", "a,b", "", "file_name;text", "\ufefffile,caption")
    )
    (source / "captions.csv").write_text("\n".join([header, *rows]))


def _add_jsonl(numbers: random.Random, source: Path) -> None:
    for path in source.glob("*.txt"):
        path.unlink()
    rows = [json.dumps({"file_name": f"{i}.png", "text": f"image {i}"}) for i in range(IMAGES)]
    odd = ("[" * 100_000, "{", "null", "[]", "1", '{"file_name": 3, "text": "x"}', '{"file_name": "0.png"}', "\x00",
           '{"file_name": "0.png", "text": "\\ud83d"}', '{"file_name": "\\u0000", "text": "x"}')  # fmt: skip
    rows.insert(numbers.randrange(IMAGES), numbers.choice(odd))
    (source / "metadata.jsonl").write_text("\n".join(rows))


def _rename(numbers: random.Random, source: Path) -> None:
    names = (b"caf\xe9", b"a\nb", b"\x1b[2J", b"x" * 200, b"a b", b"a.b.c", b"-rf", b"%s", b"$(id)")
    path, name = _image(numbers, source), numbers.choice(names)
    for suffix in (".png", ".txt"):
        if path.with_suffix(suffix).exists():
            path.with_suffix(suffix).rename(source / (os.fsdecode(name) + suffix))


DAMAGES: dict[str, Damage] = {
    "flipped bytes": _flip_bytes,
    "replaced image": _replace_image,
    "replaced file": _replace_file,
    "replaced caption": _replace_caption,
    "table": _add_table,
    "metadata.jsonl": _add_jsonl,
    "renamed": _rename,
}

IMAGE_FOLDERS = Fuzzer("image_folders", tuple(DAMAGES), _run)
