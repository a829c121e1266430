"""Functions that damage a sharded data set, each in a different way with random details."""

import gzip
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from datamodules.shards.module import ShardDataModule
from tests.fuzz.images import EPS, huge_png, image_bytes
from tests.fuzz.tar_files import edit_json, edit_member, forge_header, insert_bytes, pad, read_members, write_members

SAMPLES = 12
SHARD_SIZE = 4

Damage = Callable[[random.Random, Path], None]


def _shard(numbers: random.Random, path: Path) -> tuple[Path, int]:
    """Return the path of a random shard, and the key of a sample in it."""
    key = numbers.randrange(SAMPLES)
    return path / "train" / f"{key // SHARD_SIZE:05d}.tar", key


def _flip_bytes(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    content = bytearray(shard.read_bytes())
    for _ in range(numbers.choice((1, 10, 200))):
        content[numbers.randrange(len(content))] ^= numbers.randrange(1, 256)
    shard.write_bytes(content)


def _replace_range(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    content = shard.read_bytes()
    start, length = numbers.randrange(len(content)), numbers.choice((1, 100, 512, 5000))
    added = numbers.choice((b"", bytes(length), numbers.randbytes(length), content[:length]))
    shard.write_bytes(content[:start] + added + content[start + numbers.choice((0, length)) :])


def _truncate(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    content = shard.read_bytes()
    shard.write_bytes(content[: numbers.randrange(len(content))])


def _hostile_value(numbers: random.Random) -> object:
    big = 10 ** numbers.choice((9, 12, 19, 40, 4000))
    values: tuple[object, ...] = (
        big,
        -big,
        0,
        -1,
        1.5,
        1e308,
        float("nan"),
        float("inf"),
        None,
        True,
        "",
        "128",
        [],
        {},
        [1],
        [[]],
        "\ud83d",
    )
    return numbers.choice((*values, ["\udce9"], ["\0"], [" \n"], ["a\n" * 9999], {"a": []}, [None], "a\n\x1b[2J"))


def _change_json(numbers: random.Random, path: Path) -> None:
    shard, key = _shard(numbers, path)
    fields = numbers.sample(("id", "width", "height", "captions", "annotations", "seed"), numbers.choice((1, 2)))
    edit_json(shard, key, **{name: _hostile_value(numbers) for name in fields})


def _replace_json(numbers: random.Random, path: Path) -> None:
    shard, key = _shard(numbers, path)
    depth = numbers.choice((900, 5000, 100_000))
    texts = (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"1" * 10_000)
    others = (b"", b"null", b"[]", b"\xff\xfe", numbers.randbytes(100), b'{"id": "a"}', b"\xef\xbb\xbf{}", b"-" * 99)
    edit_member(shard, key, "json", numbers.choice((*texts, *others)))


def _replace_image(numbers: random.Random, path: Path) -> None:
    shard, key = _shard(numbers, path)
    others = [image_bytes(kind) for kind in ("GIF", "BMP", "TIFF", "EPS", "PDF", "PPM", "ICO", "TGA", "PCX")]
    content = numbers.choice((*others, EPS, b"", numbers.randbytes(999), huge_png(), image_bytes("PNG", (48, 48))))
    edit_member(shard, key, "png", content)


def _forge_sizes(numbers: random.Random, path: Path) -> None:
    shard, key = _shard(numbers, path)
    sizes = (-1, -512, -1024, -(2**40), 2**40, 2**62, 2**80)
    field = numbers.choice((None, None, b"-0000000512\0", b"99999999999\0", b" " * 12, b"\xff" * 12))
    header = forge_header(b"%08d.txt" % key, numbers.choice(sizes), size_field=field)
    insert_bytes(shard, numbers.choice(_offsets(shard)), header)


def _forge_types(numbers: random.Random, path: Path) -> None:
    shard, key = _shard(numbers, path)
    kind = numbers.choice(b"01234567LKSgxNVMDA")
    header = forge_header(b"%08d.png" % key, numbers.choice((0, 1, 512)), kind=bytes([kind]))
    insert_bytes(shard, numbers.choice(_offsets(shard)), header + numbers.randbytes(512))


def _forge_extended_headers(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    records = (
        b"size=-512", b"size=x", b"size=1e9", b"path=\xff", b"path=" + b"a" * 5000, b"GNU.sparse.map=x",
        b"GNU.sparse.size=-1", b"hdrcharset=BINARY", b"mtime=nan", b"GNU.sparse.major=1\n27 GNU.sparse.minor=0",
    )  # fmt: skip
    record = numbers.choice(records)
    length = next(n for n in range(len(record) + 3, len(record) + 9) if n == len(record) + 2 + len(str(n)))
    text = numbers.choice((b"%d %s\n" % (length, record), b"%d %s\n" % (numbers.randrange(10**9), record), b"0 a=b\n"))
    header = forge_header(b"header", len(text), kind=numbers.choice((b"x", b"g"))) + pad(text)
    insert_bytes(shard, numbers.choice(_offsets(shard)), header)


def _repeat_long_names(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    name = forge_header(b"././@LongLink", 9, kind=numbers.choice((b"L", b"K"))) + pad(b"12345.tx\0")
    insert_bytes(shard, numbers.choice(_offsets(shard)), name * numbers.choice((2, 100, 5000)))


def _rename_members(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    names = (
        "\udcff.png",
        "a\nb.json",
        "\x1b[2J.png",
        "..",
        ".png",
        "a/../b.png",
        "/etc/x.json",
        "x" * 90 + ".PNG",
        "plain",
    )
    members = read_members(shard)
    chosen = numbers.randrange(len(members))
    write_members(shard, [(numbers.choice(names) if i == chosen else n, c) for i, (n, c) in enumerate(members)])


def _replace_shard(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    content = shard.read_bytes()
    shard.unlink()
    kind = numbers.choice(("pipe", "device", "folder", "dangling", "loop", "compressed", "empty", "text", "missing"))
    match kind:
        case "pipe":
            os.mkfifo(shard)
        case "device":
            shard.symlink_to("/dev/zero")
        case "folder":
            shard.mkdir()
        case "dangling" | "loop":
            shard.symlink_to("missing" if kind == "dangling" else shard.name)
        case "compressed" | "empty" | "text":
            shard.write_bytes({"compressed": gzip.compress(content), "empty": b"", "text": b"<html>" * 999}[kind])


def _add_shard(numbers: random.Random, path: Path) -> None:
    shard, _ = _shard(numbers, path)
    shutil.copy(shard, path / "train" / f"{numbers.randrange(99999):05d}.tar")


def _change_info(numbers: random.Random, path: Path) -> None:
    info = path / "dataset.json"
    data = json.loads(info.read_text())
    keys = ("schema", "kind", "name", "source", "samples", "fingerprint", "autoencoder", "validation_is_train")
    latents = {"factor": _hostile_value(numbers), "channels": _hostile_value(numbers)}
    values: tuple[object, ...] = (
        _hostile_value(numbers),
        "latent",
        latents,
        {"train": _hostile_value(numbers), "validation": 3},
    )
    for key in numbers.sample(keys, numbers.choice((1, 2))):
        data[key] = numbers.choice(values)
    garbage = ("{", "[" * 100_000, "null", json.dumps(data)[:-40])
    info.write_text(numbers.choice((*garbage, *[json.dumps(data)] * 12)))


def _replace_info(numbers: random.Random, path: Path) -> None:
    info = path / "dataset.json"
    info.unlink()
    match numbers.randrange(3):
        case 0:
            os.mkfifo(info)
        case 1:
            info.symlink_to("/dev/zero")
        case 2:
            info.mkdir()


def _change_cache(numbers: random.Random, path: Path) -> None:
    ShardDataModule(str(path), batch_size=4, workers=0).setup()
    cache_file = path / "train" / "index.safetensors"
    content = bytearray(cache_file.read_bytes())
    start = int.from_bytes(content[:8], "little") + 8 if numbers.random() < 0.7 else 0
    for _ in range(numbers.choice((1, 8, 60))):
        content[numbers.randrange(start, len(content))] ^= numbers.randrange(1, 256)
    cache_file.write_bytes(content)


def _replace_split(numbers: random.Random, path: Path) -> None:
    split = path / numbers.choice(("train", "validation"))
    shutil.rmtree(split)
    match numbers.randrange(4):
        case 0:
            split.write_text("a file")
        case 1:
            split.symlink_to("missing")
        case 2:
            os.mkfifo(split)


def _offsets(shard: Path) -> list[int]:
    with tarfile.open(shard) as tar:
        return [info.offset for info in tar]


DAMAGES: dict[str, Damage] = {
    "flipped bytes": _flip_bytes,
    "replaced range": _replace_range,
    "truncated": _truncate,
    "changed json": _change_json,
    "replaced json": _replace_json,
    "replaced image": _replace_image,
    "forged sizes": _forge_sizes,
    "forged types": _forge_types,
    "forged extended headers": _forge_extended_headers,
    "repeated long names": _repeat_long_names,
    "renamed members": _rename_members,
    "replaced shard": _replace_shard,
    "added shard": _add_shard,
    "changed dataset.json": _change_info,
    "replaced dataset.json": _replace_info,
    "changed index": _change_cache,
    "replaced split": _replace_split,
}
