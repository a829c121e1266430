"""Tests that ``lightning doctor`` reports simulated problems."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from pocketdit.commands import doctor
from pocketdit.commands.doctor import Finding, check_commands, check_folder, space_finding, wrong_requirements
from pocketdit.commands.main import main


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """The simulated version of each package, which replaces the installed version. None simulates a missing package."""
    simulated: dict[str, str | None] = {}

    def simulated_version(name: str) -> str:
        installed = simulated[name] if name in simulated else version(name)
        if installed is None:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(doctor, "version", simulated_version)
    return simulated


def test_this_environment_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert f"torch {version('torch')}" in printed
    assert "No checks failed." in printed
    assert len(printed.splitlines()) <= 30  # the output fits on one screen


def test_missing_and_untested_packages_fail(
    versions: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    versions["torch"] = "1.0"
    versions["optuna"] = None
    assert sorted(wrong_requirements("")) == ["optuna is missing", "torch is 1.0 (tested with ==2.13.0)"]
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "fail" in captured.out
    assert "checks failed" in captured.err


def test_a_missing_extra_is_a_note(versions: dict[str, str | None]) -> None:
    versions["coremltools"] = None
    findings = {finding.subject: finding for finding in doctor.check_extras()}
    assert findings["extra export"].level == "note"
    assert "pocketdit[export]" in findings["extra export"].remedy
    assert wrong_requirements("dev") == ["coremltools is missing"]  # "dev" includes "export"


@pytest.mark.parametrize(("free", "level"), [(399, "note"), (400, "ok"), (100, "note"), (99, "fail")])
def test_check_fails_if_space_is_low(free: int, level: str) -> None:
    assert space_finding("disk", free, 100, "free some").level == level


def test_check_fails_for_the_script_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightning").write_text("from lightning.fabric.cli import main\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (finding,) = check_commands()
    assert finding.level == "fail"
    assert "use the command pocketdit" in finding.remedy


def test_check_fails_for_an_invalid_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pocketdit.toml").write_text("[trust]\nmodule = []\n")
    folder, project = check_folder(tmp_path)
    assert folder == Finding(
        "folder", f"{tmp_path} does not contain experiments/", "note", "create it with: lightning init"
    )
    assert project.level == "fail"
    assert "did you mean 'modules'?" in project.detail
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["mine"]\n')
    assert "trusts the modules mine" in [finding.detail for finding in check_folder(tmp_path)]
