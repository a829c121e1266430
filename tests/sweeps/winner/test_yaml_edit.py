"""Tests that edited YAML text has the new values and is otherwise unchanged."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketdit.config import override
from sweeps.winner.yaml_edit import set_values
from tests.conftest import PRETRAIN, ROOT

TEXT = """\
# head
seed: 0
stage:
  shift: 3.0          # near the noise
  # comment on rest
  rest:               # what follows
    - {kind: assa, blocks: 4}   # first
    - {kind: full, blocks: 2}

end: {}
"""


@pytest.mark.parametrize(
    ("changes", "line", "expected"),
    [
        ({"seed": 3}, 1, "seed: 3"),
        ({"stage.shift": 1e-5}, 3, "  shift: 1e-05"),
        ({"stage.rest.0.blocks": 8}, 6, "    - {kind: assa, blocks: 8}"),
        ({"stage.rest.1.kind": "a: b"}, 7, "    - {kind: 'a: b', blocks: 2}"),
        ({"stage.rest.1.kind": "${seed}"}, 7, "    - {kind: '${seed}', blocks: 2}"),
        ({"stage.rest.1.radius": 1}, 7, "    - {kind: full, blocks: 2, radius: 1}"),
        ({"stage.rest.1": {"kind": "x"}}, 7, "    - {kind: x}"),
        ({"end.a.b": True}, 9, "end: {a: {b: true}}"),
        ({"stage.new": None}, 8, "  new: null"),
        ({"other": [1, 2]}, 10, "other: [1, 2]"),
    ],
)
def test_only_one_line_changes(changes: dict[str, object], line: int, expected: str) -> None:
    edited = set_values(TEXT, changes.items())
    lines, before = edited.splitlines(), TEXT.splitlines()
    assert lines[line] == expected
    rest = lines[:line] + lines[line + 1 :]
    assert rest in (before, before[:line] + before[line + 1 :])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone.levels.0.attention", {"kind": "full", "kv_heads": 2}),
        ("backbone.widths", [0.5, 1.0]),
        ("stage.init_args", {"time_shift": 1.0}),
        ("sampling.prompts", ["a: b", "# c", "don't", "ü"]),
        ("training.compile", True),
        ("parents.start", "a/b"),
        ("data.init_args.path", "${experiment}"),
        ("tracking", {"uri": "sqlite:///x.db", "project": "p"}),
    ],
)
def test_edit_has_the_same_effect_as_an_override(key: str, value: Any) -> None:
    text = PRETRAIN.read_text()
    expected = yaml.safe_load(text)
    override.change(key, value).apply(expected)
    assert yaml.safe_load(set_values(text, [(key, value)])) == expected


EXPERIMENTS = [path for path in sorted((ROOT / "experiments").glob("*.yaml")) if path.stem != "recipe"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_only_one_line_of_a_shipped_experiment_changes(path: Path) -> None:
    before, after = (text.splitlines() for text in (path.read_text(), set_values(path.read_text(), [("seed", 12345)])))
    assert len(set(after) - set(before)) == 1
    assert len(set(before) - set(after)) <= 1


def test_comment_below_a_replaced_block_is_kept() -> None:
    edited = set_values(TEXT.replace("end: {}\n", "# of the end\nend: {}\n"), [("stage.rest", [1])])
    assert yaml.safe_load(edited)["stage"] == {"shift": 3.0, "rest": [1]}
    assert "# of the end\nend" in edited


@pytest.mark.parametrize("key", ["seed.below", "stage.rest.7.blocks", "stage.rest.first"])
def test_key_without_a_valid_parent_is_rejected(key: str) -> None:
    with pytest.raises(ValueError, match="is not an entry of its parent"):
        set_values(TEXT, [(key, 1)])


def test_equal_value_is_not_rewritten() -> None:
    assert set_values(TEXT, [("stage.shift", 3), ("stage.rest.0", {"kind": "assa", "blocks": 4})]) == TEXT


def test_later_changes_override_earlier_ones() -> None:
    """A trial's overrides depend on this order: the chosen options come first, then single keys that refine them."""
    changes = [("end", {"kind": "x"}), ("end.blocks", 2), ("end", {"kind": "y"}), ("end.radius", 1)]
    assert yaml.safe_load(set_values(TEXT, changes))["end"] == {"kind": "y", "radius": 1}
