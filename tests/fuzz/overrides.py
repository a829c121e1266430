"""Overrides of the shipped YAML files. Each must be refused with a one-line error or take effect as written."""

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from pocketdit.config.errors import dotted
from tests.fuzz.command import run_command
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.odd_values import BROKEN_TEXTS, CLASS_PATHS, INTERPOLATIONS, NUMBERS, ODD_KEYS, ODD_TEXTS, TEXTS
from tests.fuzz.shipped import ROOT, Shipped, choose, entries, entries_of, same

UNKNOWN = object()  # the expected value of an override that may take any value if it is accepted


class Change(NamedTuple):
    """An override, and the value that the key must have if the override is accepted."""

    key: str
    text: str
    value: Any = UNKNOWN

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


def _json(numbers: random.Random, value: Any) -> str:
    """Format a value at random as JSON or as YAML. A YAML parser can read both."""
    if numbers.random() < 0.5 or (isinstance(value, str) and not value.isprintable()):
        return json.dumps(value, ensure_ascii=numbers.random() < 0.3)
    return (
        str(yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True))
        .removesuffix("\n...\n")
        .rstrip("\n")
    )


def _scalar(numbers: random.Random) -> Any:
    return numbers.choice((numbers.choice(NUMBERS), numbers.choice(TEXTS), numbers.choice((None, True, False))))


def _value(numbers: random.Random, depth: int = 2) -> Any:
    match numbers.randrange(10 if depth else 8):
        case 8:
            return [_value(numbers, depth - 1) for _ in range(numbers.randrange(4))]
        case 9:
            return {numbers.choice(TEXTS[1:]): _value(numbers, depth - 1) for _ in range(numbers.randrange(3))}
        case _:
            return _scalar(numbers)


def _near(numbers: random.Random, value: Any) -> Any:
    """Return a random value of the same type as ``value``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return numbers.choice((value + 1, value - 1, value * 2, value * 16, -value, value * 10**9))
    if isinstance(value, float):
        return numbers.choice((value / 2, value * 2, value + 0.125, -value, value * 1e6, 0.0))
    if isinstance(value, str):
        return numbers.choice((f"{value}x", value[:-1], value.upper(), *TEXTS))
    if isinstance(value, list):
        return [_near(numbers, item) for item in value] if numbers.random() < 0.6 else value[:-1]
    return value


def _key(numbers: random.Random, file: Shipped) -> str:
    key = numbers.choice(list(entries_of(file)))
    return key if numbers.random() < 0.7 else ".".join(key.split(".")[: numbers.choice((1, 2))])


def _near_value(numbers: random.Random, file: Shipped) -> Change:
    key = _key(numbers, file)
    value = _near(numbers, entries_of(file)[key])
    return Change(key, _json(numbers, value), value)


def _any_value(numbers: random.Random, file: Shipped) -> Change:
    value = _value(numbers)
    return Change(_key(numbers, file), _json(numbers, value), value)


def _odd_yaml(numbers: random.Random, file: Shipped) -> Change:
    if numbers.random() < 0.4:
        return Change(_key(numbers, file), numbers.choice(BROKEN_TEXTS))
    text = numbers.choice(list(ODD_TEXTS))
    return Change(_key(numbers, file), text, ODD_TEXTS[text])


def _interpolation(numbers: random.Random, file: Shipped) -> Change:
    os.environ["FUZZ_NUMBER"] = "3"
    if numbers.random() < 0.5:
        return Change(_key(numbers, file), numbers.choice(INTERPOLATIONS))
    source = _key(numbers, file)
    return Change(_key(numbers, file), f"${{{source}}}", entries_of(file)[source])


def _class_path(numbers: random.Random, file: Shipped) -> Change:
    keys = [key for key in entries_of(file) if key.endswith("class_path")]
    key, path = numbers.choice(keys or [f"{_key(numbers, file)}.class_path"]), numbers.choice(CLASS_PATHS)
    if numbers.random() < 0.3:
        value = {"class_path": path, "init_args": {"args": ["touch", "executed"], "command": "touch executed"}}
        return Change(key.rpartition(".")[0] or key, json.dumps(value), value)
    return Change(key, path, path.strip())


def _odd_key(numbers: random.Random, file: Shipped) -> Change:
    key = _key(numbers, file)
    at = numbers.randrange(len(key))
    added = numbers.choice((numbers.choice(ODD_KEYS), "0", "-1", "99", "class_path"))
    typo = key[:at] + numbers.choice(("", *"aZ_-. 0é=[")) + key[at + numbers.randrange(2) :]
    keys = (numbers.choice(ODD_KEYS), f"{key}.{added}", f"{key}[0]", typo, key.upper(), key.replace(".", "/"))
    value = _scalar(numbers)
    return Change(numbers.choice(keys), _json(numbers, value), value)


KINDS: dict[str, Callable[[random.Random, Shipped], Change]] = {
    "near value": _near_value,
    "any value": _any_value,
    "odd YAML": _odd_yaml,
    "interpolation": _interpolation,
    "class path": _class_path,
    "odd key": _odd_key,
}


def _run(given: Input) -> str:
    os.chdir(ROOT)
    file = choose(given.numbers)
    change = KINDS[given.kind](given.numbers, file)
    output = run_command(file.command, file.path, str(change), "--print-config")
    assert not Path("executed").exists(), "a class of a module that is not trusted was executed"
    if output.status:
        assert len(output.lines) == 1 or output.lines[0].startswith("usage: "), output.lines
        return f"refused: {output.lines[-1][:300]}"
    require_effect(file, change, given.folder)
    return f"accepted: {file.path.name} {str(change)[:300]!r}"


def require_effect(file: Shipped, change: Change, folder: Path) -> None:
    """Check that an override takes effect as written, and that loading the stored configuration preserves its value.

    Raises:
        AssertionError: The value or the restored configuration differs.
    """
    loaded = file.load(file.path, (str(change),))
    taken = dict(entries(OmegaConf.to_container(OmegaConf.create(loaded.to_yaml()), resolve=True)))
    key = dotted(change.key)
    assert key in taken, f"{change} was accepted, but the configuration does not contain {key}"
    # ``init_args: null`` is stored as the default arguments.
    has_defaults = change.value is None and key.endswith("init_args") and isinstance(taken[key], dict)
    if change.value is not UNKNOWN and not has_defaults:
        assert same(change.value, taken[key]), f"{change} was accepted as {taken[key]!r}"
    stored = folder / "config.yaml"
    stored.write_text(loaded.to_yaml())
    assert file.load(stored).resolved == loaded.resolved, f"{change} is not restored from the stored configuration"


OVERRIDES = Fuzzer("overrides", tuple(KINDS), _run, count=2000)
