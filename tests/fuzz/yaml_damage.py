"""Functions that damage the lines of a YAML file, each in a different way."""

import random
import re
from collections.abc import Callable

import yaml  # type: ignore[import-untyped]

from tests.fuzz.odd_values import BROKEN_TEXTS, CLASS_PATHS, INTERPOLATIONS, ODD_TEXTS, TEXTS

Damage = Callable[[random.Random, list[str]], list[str] | bytes]

ODD_NAMES = (
    "1", "null", "true", "1.5", "~", "[a]", "{a: b}", "<<", "&a", "*a", "!x", "", "😀", "${seed}", "__class__",
    "class_path", "kind", "a" * 2000,
)  # fmt: skip
WRONG_TYPES = (
    "", "[]", "{}", "[1]", "{a: 1}", "-1", "0", "1.5", "true", "text", "1e999", "[[]]", "{class_path: 3}", "9" * 20,
)  # fmt: skip
OTHER_FILES = (b"", b"\n", b"# x", b"---", b"[]", b"null", b"a", b"--- {}\n--- {}", b"%YAML 9.9\n---\n{}")


def _at(numbers: random.Random, lines: list[str]) -> int:
    """Return the index of a random line that is neither empty nor a comment."""
    return numbers.choice([i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")])


def _parts(line: str) -> tuple[str, str]:
    """Split a line into its key, including the indentation and the colon, and the rest of the line."""
    match = re.match(r"(\s*(?:- )?[^:#{\[]+:)(.*)", line)
    return (match[1], match[2]) if match else (line, "")


def _delete(numbers: random.Random, lines: list[str]) -> list[str]:
    at = _at(numbers, lines)
    return lines[:at] + lines[at + numbers.choice((1, 1, 5)) :]


def _duplicate(numbers: random.Random, lines: list[str]) -> list[str]:
    at, to = _at(numbers, lines), _at(numbers, lines)
    return [*lines[:to], lines[at], *lines[to:]] if numbers.random() < 0.5 else lines[: at + 1] + lines[at:]


def _reindent(numbers: random.Random, lines: list[str]) -> list[str]:
    at, count = _at(numbers, lines), numbers.choice((1, 1, 4))
    space = numbers.choice((" ", "  ", "   ", "\t", "\u00a0", "\u3000", ""))
    moved = [space + (line if space else line.lstrip()) for line in lines[at : at + count]]
    return lines[:at] + moved + lines[at + count :]


def _rename(numbers: random.Random, lines: list[str]) -> list[str]:
    at = _at(numbers, lines)
    key, rest = _parts(lines[at])
    name = key.strip(" -:")
    names = (name[:-1], f"{name}s", name.upper(), f'"{name}"', f"? {name}", f"{name}.x", *ODD_NAMES)
    return [*lines[:at], key.replace(name, numbers.choice(names), 1) + rest, *lines[at + 1 :]]


def _swap(numbers: random.Random, lines: list[str]) -> list[str]:
    a, b, lines = _at(numbers, lines), _at(numbers, lines), list(lines)
    lines[a], lines[b] = lines[b], lines[a]
    return lines


def _replace(numbers: random.Random, lines: list[str], value: str) -> list[str]:
    at = _at(numbers, lines)
    return [*lines[:at], f"{_parts(lines[at])[0]} {value}", *lines[at + 1 :]]


def _wrong_type(numbers: random.Random, lines: list[str]) -> list[str]:
    return _replace(numbers, lines, numbers.choice(WRONG_TYPES))


def _odd_value(numbers: random.Random, lines: list[str]) -> list[str]:
    texts = numbers.choice((tuple(ODD_TEXTS), BROKEN_TEXTS, INTERPOLATIONS, CLASS_PATHS, TEXTS))
    return _replace(numbers, lines, numbers.choice(texts))


def _bytes(numbers: random.Random, lines: list[str]) -> bytes:
    text = "\n".join(lines)
    content = text.encode()
    at = numbers.randrange(len(content))
    match numbers.randrange(8):
        case 0:
            return content[:at] + b"\0" + content[at:]
        case 1:
            return b"\xef\xbb\xbf" + content
        case 2:
            return text.replace("a", "é", 3).encode("latin-1", "replace")
        case 3:
            return text.encode("utf-16")
        case 4:
            return content.replace(b"\n", numbers.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", "\u2028".encode())))
        case 5:
            return content[:at] + numbers.randbytes(numbers.choice((1, 20))) + content[at:]
        case 6:
            return content[:at]
        case _:
            return numbers.choice(OTHER_FILES)


def _alias(numbers: random.Random, lines: list[str]) -> list[str]:
    """Add an anchor to a line, and an alias or a merge key in another place."""
    at = _at(numbers, lines)
    key, rest = _parts(lines[at])
    indentation = key[: len(key) - len(key.lstrip())]
    merged = numbers.choice(("*anchor", "[*anchor, *anchor]", "3", "{seed: 3}"))
    aliases = (f"{key} *anchor", f"{key} *missing", f"{indentation}extra: *anchor", f"{indentation}<<: {merged}",
               "<<: *anchor", "*anchor : 3")  # fmt: skip
    anchored = [*lines[:at], f"{key} &anchor {rest}", *lines[at + 1 :]]
    to = numbers.choice((at, at + 1, len(lines), _at(numbers, lines)))
    return [*anchored[:to], numbers.choice(aliases), *anchored[to:]]


def _bomb(numbers: random.Random, lines: list[str]) -> list[str]:
    """Add lines that expand to gigabytes or are nested too deeply, or add too many lines."""
    width, depth = numbers.choice(((10, 9), (2, 40), (1000, 3)))
    match numbers.randrange(6):
        case 0:
            repeated = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
            added = ["a0: &a0 [x]", *repeated]
        case 1:
            added = ["b0: x", *(f"b{i}: {f'${{b{i - 1}}}' * width}" for i in range(1, depth))]
        case 2:
            added = ["c: " + "[" * 5000]
        case 3:
            added = [f"{' ' * i}d:" for i in range(1000)]
        case 4:
            added = ["e: " + "x" * 2_000_000]
        case _:
            added = [f"f{i}: {i}" for i in range(30_000)]
    return lines + added if numbers.random() < 0.5 else added + lines


def _several(numbers: random.Random, lines: list[str]) -> list[str]:
    for _ in range(3):
        damaged = numbers.choice((_delete, _duplicate, _reindent, _rename, _swap, _wrong_type))(numbers, lines)
        lines = damaged if len(damaged) > 5 else lines
    return lines


def _reformat(numbers: random.Random, lines: list[str]) -> list[str]:
    """Format the same configuration differently."""
    text: str = yaml.safe_dump(
        yaml.safe_load("\n".join(lines)),
        default_flow_style=numbers.choice((True, False, None)),
        width=numbers.choice((20, 80, 10_000)),
        indent=numbers.choice((2, 4, 8)),
        sort_keys=numbers.random() < 0.5,
    )
    return text.splitlines()


UNCHANGED = "reformatted"
DAMAGES: dict[str, Damage] = {
    UNCHANGED: _reformat,
    "deleted": _delete,
    "duplicated": _duplicate,
    "reindented": _reindent,
    "renamed": _rename,
    "swapped": _swap,
    "wrong type": _wrong_type,
    "odd value": _odd_value,
    "bytes": _bytes,
    "alias": _alias,
    "bomb": _bomb,
    "several": _several,
}
