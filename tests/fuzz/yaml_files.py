"""Damages shipped YAML files. Each must be refused with a one-line error, or load as an independent parser reads it."""

import os
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from tests.fuzz.command import run_command
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.shipped import ROOT, Shipped, choose, entries, entries_of, same
from tests.fuzz.yaml_damage import DAMAGES, UNCHANGED


def _run(given: Input) -> str:
    os.chdir(ROOT)
    file = choose(given.numbers)
    path = given.folder / file.path.name
    damaged = DAMAGES[given.kind](given.numbers, file.path.read_text().splitlines())
    path.write_bytes(damaged if isinstance(damaged, bytes) else "\n".join(damaged).encode(errors="surrogatepass"))
    output = run_command(file.command, path, "--print-config")
    assert not Path("executed").exists(), "a class of a module that is not trusted was executed"
    if output.status:
        assert given.kind != UNCHANGED, output.lines
        assert len(output.lines) == 1, output.lines
        assert path.name in output.lines[0], f"the file is not named: {output.lines}"
        return f"refused: {output.lines[-1][:300]}"
    require_effect(file, path)
    if given.kind == UNCHANGED:
        assert dict(entries(file.load(path).resolved)) == entries_of(file)
    return f"accepted: {path.name}"


def require_effect(file: Shipped, path: Path) -> None:
    """Check that a configuration has the values in its file, and that storing and loading it does not change it.

    Raises:
        AssertionError: A value of the file was dropped or changed, or the stored configuration differs.
    """
    text = path.read_text(encoding="utf-8-sig")
    require_unique_keys(yaml.compose(text, Loader=yaml.SafeLoader))
    loaded = file.load(path)
    taken = dict(entries(OmegaConf.to_container(OmegaConf.create(loaded.to_yaml()), resolve=True)))
    for key, value in entries(yaml.safe_load(text)):
        if not isinstance(value, dict | list) and "${" not in str(value):
            assert key in taken, f"{key} was dropped"
            assert same(value, taken[key]), f"{key}: {value!r} was loaded as {taken[key]!r}"
    stored = path.with_name("stored.yaml")
    stored.write_text(loaded.to_yaml())
    assert file.load(stored).resolved == loaded.resolved, "the stored configuration is different"


def require_unique_keys(node: Any) -> None:
    """Raise ``AssertionError`` if a mapping contains the same key twice."""
    if isinstance(node, yaml.MappingNode):
        names = [name.value for name, _ in node.value]
        assert len(names) == len(set(names)), f"a repeated key was accepted: {names}"
        for _, value in node.value:
            require_unique_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            require_unique_keys(value)


YAML_FILES = Fuzzer("yaml_files", tuple(DAMAGES), _run, count=500)
