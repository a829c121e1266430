"""Tests for the digests of the code that a task depends on."""

from pathlib import Path

import pytest

from pocketdit.commands.recipe import source_code
from pocketdit.commands.recipe.source_code import module_file, read_source, source_digests

LOSS = '"""A loss."""\nFACTOR = 2\ndef g():\n    """Return it."""\n    return FACTOR\n'
DECODER = "pocketdit.stages.tiny_decoder.TinyDecoderStage"


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a user's package in the working directory. A function in one of its modules imports the other module."""
    monkeypatch.chdir(tmp_path)
    source_code.package_root.cache_clear()
    source_code.module_file.cache_clear()
    (tmp_path / "mine").mkdir()
    stage = "def f():\n    from mine.loss import g\n    import json\n    return g()\n"
    (tmp_path / "mine" / "stage.py").write_text(stage)
    (tmp_path / "mine" / "loss.py").write_text(LOSS)
    return tmp_path / "mine"


def digest(path: Path, text: str) -> str:
    path.write_text(text)
    read_source.cache_clear()
    return read_source(path)[0]


def test_imports_are_followed_in_functions_but_not_into_installed_packages(own_code: Path) -> None:
    assert set(source_digests(["mine.stage.Stage"])) == {"mine.stage", "mine.loss"}


def test_imports_for_type_checkers_are_not_followed(own_code: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mine.stage import f\n"
    (own_code / "typed.py").write_text(text)
    assert set(source_digests(["mine.typed"])) == {"mine.typed"}


def test_only_the_code_itself_changes_a_digest(own_code: Path) -> None:
    before = digest(own_code / "loss.py", LOSS)
    same = '"""Another text."""\n\n# A comment\nFACTOR = 2\n\n\ndef g():\n    return (FACTOR)\n'
    assert digest(own_code / "loss.py", same) == before
    assert digest(own_code / "loss.py", same.replace("2", "3")) != before


def test_a_stage_depends_on_its_losses_but_not_on_other_stages() -> None:
    modules = set(source_digests([DECODER]))
    assert {"pocketdit.stages.tiny_decoder", "pocketdit.decoders.tiny"} <= modules
    assert not modules & {"pocketdit.stages.knowledge_distill", "pocketdit.commands.main", "pocketdit.running.fit"}
    assert all(module_file(module) is not None for module in modules)


def test_an_unknown_module_has_no_digest() -> None:
    assert source_digests(["torch.optim.AdamW", "no_such_module.Class"]) == {}
