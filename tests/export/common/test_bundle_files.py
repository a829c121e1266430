"""Tests that bundles in a newer format are refused instead of being misread."""

import json
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import FORMAT, require_known_format


def test_bundles_of_this_and_of_unnumbered_versions_are_accepted() -> None:
    require_known_format({"format": FORMAT}, Path("b"))
    require_known_format({}, Path("b"))


@pytest.mark.parametrize("number", [1, FORMAT + 1, "2", None, [1]])
def test_other_formats_are_refused(number: object) -> None:
    with pytest.raises(ConfigError, match=rf"^b: the bundle has format .* reads format {FORMAT}; (update|export)"):
        require_known_format({"format": number}, Path("b"))


@pytest.mark.parametrize("words", [["verify"], ["latency"]])
def test_commands_refuse_a_newer_bundle(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coremltools")
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT + 1, "packages": {}, "new": {}}))
    assert main([*words, str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the bundle has format {FORMAT + 1}, but this version of PocketDiT reads format {FORMAT}" in line


@pytest.mark.parametrize("content", ["[]", "3", "null", "[" * 100_000])
def test_a_manifest_that_is_not_an_object_is_a_one_line_error(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coremltools")
    (tmp_path / "manifest.json").write_text(content)
    for verb in ("verify", "latency"):
        assert main([verb, str(tmp_path)]) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert "manifest" in line
