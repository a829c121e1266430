"""Tests that a composed experiment is equivalent to its base with the overrides and keeps the author's text."""

from pathlib import Path

import pytest

from pocketdit.backbones.spec import AdaptiveSparseAttention
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from sweeps.overrides import KeyValue, load_experiment
from sweeps.winner.compose import compose
from tests.conftest import PRETRAIN

OVERRIDES: list[KeyValue] = [
    ("backbone.levels.0.attention.blocks", 8),
    ("backbone.levels.2.attention", {"kind": "full", "kv_heads": 2}),
    ("training.compile", True),
    ("sampling.guidance", "${training.clip_norm}"),
]
ABOUT = ["Trial 3 of the study blocks.", "Cost: 65 s.", "Expected: validation loss 0.5."]


def test_result_is_equivalent_to_the_base_with_the_overrides(tmp_path: Path) -> None:
    compose(PRETRAIN, OVERRIDES, tmp_path / "winner.yaml", ABOUT)
    written = load(tmp_path / "winner.yaml", [], Experiment)
    assert written.resolved == load_experiment(PRETRAIN, OVERRIDES).resolved | {"experiment": "winner"}
    assert written.resolved != load(PRETRAIN, ["experiment=winner"], Experiment).resolved
    assert [p.name for p in tmp_path.iterdir()] == ["winner.yaml"]


def test_comments_are_kept_except_for_the_opening_comment(tmp_path: Path) -> None:
    compose(PRETRAIN, OVERRIDES, tmp_path / "winner.yaml", ABOUT)
    lines = (tmp_path / "winner.yaml").read_text().splitlines()
    assert lines[:8] == [
        "# Trial 3 of the study blocks.", "#", "#   lightning data build scenes data/scenes",
        f"#   lightning run {tmp_path / 'winner.yaml'}", "#", "# Cost: 65 s.", "# Expected: validation loss 0.5.", "",
    ]  # fmt: skip
    inside = PRETRAIN.read_text().partition("experiment:")[2]
    comments = [line for line in inside.splitlines() if "#" in line]
    assert comments
    assert set(comments) <= set(lines)


def test_text_that_cannot_be_edited_is_replaced_by_the_resolved_configuration(tmp_path: Path) -> None:
    """Two levels share a value through a YAML anchor, so editing the text would change both."""
    text = PRETRAIN.read_text()
    first = "    - {depth: 1, scale: 1, attention: {kind: assa, kv_heads: 2, blocks: 4, radius: 1}, ffn_ratio: 4}\n"
    assert text.count(first) == 2
    text = text.replace(first, first.replace("- {", "- &down {"), 1)
    source = tmp_path / "source.yaml"
    source.write_text(text.replace(first, "    - *down\n"))
    overrides = [("backbone.levels.0.attention.blocks", 8)]
    expected = load_experiment(source, overrides)
    attention = expected.config.dit.levels[2].attention
    assert isinstance(attention, AdaptiveSparseAttention)
    assert attention.blocks == 4
    compose(source, overrides, tmp_path / "winner.yaml", ABOUT)
    assert load(tmp_path / "winner.yaml", [], Experiment).resolved == expected.resolved | {"experiment": "winner"}
    assert (tmp_path / "winner.yaml").read_text().startswith("# Trial 3")


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "winner.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="already exists"):
        compose(PRETRAIN, [], tmp_path / "winner.yaml", ABOUT)
    assert (tmp_path / "winner.yaml").read_text() == "mine"


def test_file_name_without_the_yaml_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.yaml"):
        compose(PRETRAIN, [], tmp_path / "winner", ABOUT)
