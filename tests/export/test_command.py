"""The two verbs as a user calls them."""

from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.config.load import load
from pocketdit.export.settings import Export
from tests.export.conftest import COREML


def test_the_shipped_file_is_valid() -> None:
    assert load(COREML, [], Export).config.run == "elastic_pretrain"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["widht=0.5"], "widht"),
        (["size=big"], "must be HEIGHTxWIDTH in pixels"),
        (["run=null"], "give run=RUN, or experiment=FILE"),
        (["blockwise=parallel"], "blockwise"),
    ],
)
def test_wrong_settings_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(COREML), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_random_weights_say_so_and_can_be_verified(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``verify`` builds the network again from the manifest."""
    assert '"note": "random weights"' in (half / "manifest.json").read_text()
    assert not (half / "decoder.mlpackage").exists()
    assert main(["verify", str(half)]) == 1
    shown = capsys.readouterr()
    assert "velocity at time 0.5" in shown.out and "budget.operations is 10, the graph has" in shown.err
    assert main(["verify", str(half), "budget.operations=null", "seed=1"]) == 1
    assert "the packages do not hold this weight" in capsys.readouterr().err
