"""Tests that deeply nested configurations, and those that expand to a huge size, are quickly refused in one line."""

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pocketdit.config.load import load
from pocketdit.config.override import parse
from pocketdit.errors import ConfigError

LETTERS = "abcdefghijkl"


@dataclass(frozen=True)
class Config:
    values: dict[str, Any] = field(default_factory=dict)


def chain(line: str) -> str:
    """Return a YAML mapping in which each entry repeats the previous entry ten times."""
    first = "  a: xxxxxxxxxx" if "$" in line else "  a: &a [x, x, x, x, x, x, x, x, x, x]"
    pairs = zip(LETTERS[1:], LETTERS, strict=False)
    return "\n".join(["values:", first, *(line.format(name=name, above=above) for name, above in pairs)])


BOMBS = {
    "interpolations in a string": (
        chain("  {name}: " + "${{values.{above}}}" * 10),
        "after its interpolations are resolved",
    ),
    "interpolations in a list": (
        chain("  {name}: [" + ", ".join(['"${{values.{above}}}"'] * 10) + "]"),
        "after its interpolations are resolved",
    ),
    "interpolations of sections": (
        chain("  {name}: {{" + ", ".join(f'k{i}: "${{{{values.{{above}}}}}}"' for i in range(10)) + "}}"),
        "after its interpolations are resolved",
    ),
    "relative interpolations": (
        chain("  {name}: " + "${{.{above}}}" * 10),
        "after its interpolations are resolved",
    ),
    "resolvers": (
        chain("  {name}: " + "${{oc.select:values.{above}}}" * 10),
        r"values.b: \$\{oc.select:...\} is not supported; use \$\{oc.env:NAME\} or a reference to a key",
    ),
    "interpolated keys": (
        "values: {a: b, b: c, c: '${values.${values.a}}'}",
        "values.c: the key of an interpolation cannot contain an interpolation",
    ),
    "aliases": (chain("  {name}: &{name} [" + ", ".join(["*{above}"] * 10) + "]"), "after its aliases are expanded"),
    "recursive alias": ("values: &a {b: *a}", "alias"),
    "brackets": ("values: " + "[" * 200 + "]" * 200, "nested more than 50 levels deep"),
    "mappings": ("values: " + "{a: " * 200 + "1" + "}" * 200, "nested more than 50 levels deep"),
    "indentation": ("\n".join(" " * i + "a:" for i in range(200)), "nested more than 50 levels deep"),
    "a hundred thousand brackets": ("values: " + "[" * 100_000, "maximum nesting depth"),
    "a large file": ("values: {a: " + "x" * 2_000_000 + "}", "too large for a configuration"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_huge_files_are_refused(kind: str, tmp_path: Path) -> None:
    text, message = BOMBS[kind]
    file = tmp_path / "c.yaml"
    file.write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigError, match=message) as caught:
        load(file, [], Config)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - start < 5
    # Expanding any of these configurations would need more memory than this (in KiB).
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000


def test_nested_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="the key is nested more than 50 levels deep"):
        parse(".".join("a" * 300) + "=1")
    assert parse(".".join("a" * 50) + "=1").value == 1


@pytest.mark.parametrize("value", ["[" * 200 + "]" * 200, "{a: " * 200 + "}" * 200, "[" * 100_000])
def test_nested_overrides_are_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("values: {}")
    with pytest.raises(ConfigError, match="nest") as caught:
        load(tmp_path / "c.yaml", [f"values={value}"], Config)
    assert len(str(caught.value)) < 500


def test_ordinary_interpolations_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "values: {a: 1, b: '${values.a}', c: '${.b}', d: [x, '${values.d.0}'], e: &e [1], f: *e}"
    )
    assert load(tmp_path / "c.yaml", [], Config).config.values == {
        "a": 1, "b": 1, "c": 1, "d": ["x", "x"], "e": [1], "f": [1],
    }  # fmt: skip
