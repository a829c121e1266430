"""Changed text means what was asked for, and everything else stays as it was written."""

import pytest
import yaml  # type: ignore[import-untyped]

from pocketdit.config import override
from sweeps.looking.edit import set_values
from tests.conftest import PRETRAIN

TEXT = """\
# head
seed: 0
stage:
  shift: 3.0          # near the noise
  # of its own
  rest:               # what follows
    - {kind: assa, blocks: 4}   # first
    - {kind: full, blocks: 2}

end: {}
"""


@pytest.mark.parametrize(
    ("changes", "line", "expected"),
    [
        ({"seed": 3}, 1, "seed: 3"),
        ({"stage.shift": 1e-5}, 3, "  shift: 1.0e-05"),
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
def test_one_line_changes_and_the_others_stay(changes: dict[str, object], line: int, expected: str) -> None:
    edited = set_values(TEXT, changes.items())
    lines, before = edited.splitlines(), TEXT.splitlines()
    assert lines[line] == expected
    rest = lines[:line] + lines[line + 1 :]
    assert rest in (before, before[:line] + before[line + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        "backbone.levels.0.attention={kind: full, kv_heads: 2}",
        "backbone.widths=[0.5, 1.0]",
        "stage.init_args={time_shift: 1.0}",
        "sampling.prompts=['a: b', '# c', \"don't\", 'ü']",
        "training.compile=true",
        "parents.start=a/b",
        "data.init_args.path='${experiment}'",
        "tracking={uri: 'sqlite:///x.db', project: p}",
    ],
)
def test_an_experiment_changes_as_by_an_override(change: str) -> None:
    text = PRETRAIN.read_text()
    parsed = override.parse(change)
    expected = yaml.safe_load(text)
    parsed.apply(expected)
    assert yaml.safe_load(set_values(text, [(parsed.key, parsed.value)])) == expected


def test_a_replaced_block_keeps_the_comments_behind_it() -> None:
    edited = set_values(TEXT.replace("end: {}\n", "# of the end\nend: {}\n"), [("stage.rest", [1])])
    assert yaml.safe_load(edited)["stage"] == {"shift": 3.0, "rest": [1]}
    assert "# of the end\nend" in edited


@pytest.mark.parametrize("key", ["seed.below", "stage.rest.7.blocks", "stage.rest.first"])
def test_a_key_below_no_keys_is_refused(key: str) -> None:
    with pytest.raises(ValueError):
        set_values(TEXT, [(key, 1)])


def test_a_value_that_is_the_same_stays_as_it_was_written() -> None:
    assert set_values(TEXT, [("stage.shift", 3), ("stage.rest.0", {"kind": "assa", "blocks": 4})]) == TEXT


def test_later_changes_come_over_earlier_ones() -> None:
    """As overrides do: options first, then the keys that refine them."""
    changes = [("end", {"kind": "x"}), ("end.blocks", 2), ("end", {"kind": "y"}), ("end.radius", 1)]
    assert yaml.safe_load(set_values(TEXT, changes))["end"] == {"kind": "y", "radius": 1}
