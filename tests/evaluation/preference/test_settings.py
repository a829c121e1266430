"""Tests that invalid settings of a preference study are reported in one line with exit status 2."""

from pathlib import Path

import pytest

from evaluation.preference.settings import Preference
from pocketdit.commands.main import main
from pocketdit.config.load import load


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("subject.a=1", "subject: unknown key; did you mean 'subjects'?"),
        ("checks.nois=1", "checks.nois: unknown key; did you mean 'noise'?"),
        ("checks.noise=-1", "checks.noise: must be from 0 to 50, not -1"),
        ("pairs_per_rater=0", "pairs_per_rater: must be from 1 to 10,000, not 0"),
        ("compare=[[a, c]]", "compare: there is no subject 'c'"),
        ("compare=[[a, a]]", "compare: a cannot be compared with itself"),
        ("compare=[[a, b], [b, a]]", "compare: a and b occur twice"),
        ("questions=[realsim]", "did you mean 'realism'?"),
        ("questions=[realism, realism]", "questions must contain at least one question, and each question only once"),
        ("questions=[]", "questions must contain at least one question, and each question only once"),
        ("preference=a/b", "preference must be a plain name"),
        ("run=x", "does not use ${run}, so run would have no effect"),
        ("storage=mysql://host/name", "storage: mysql://host/name must be sqlite:///FILE or postgresql://"),
        ("storage=sqlite://", "storage: sqlite:// must be sqlite:///FILE or postgresql://"),
        ("storage=study.db", "storage: study.db is not a database URL"),
        ("storage=postgresql://user:secret@host/name", "storage: contains a password"),
        ("prompts.init_args.path=missing.txt", "missing.txt: cannot be read"),
        ("checks.repeat=5", "checks.repeat: 5 is too many for 8 pairs per rater; use at most 4"),
        ("tracking.uri=x", 'tracking.uri "x" is neither a database nor a server'),
    ],
)
def test_invalid_setting_is_one_line(
    file: Path, override: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preference", "create", str(file), override]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_one_subject_is_not_enough(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preference", "create", str(file), "subjects={}"]) == 2
    assert "subjects must contain at least two subjects to compare" in capsys.readouterr().err


def test_pairs_are_all_pairs_or_the_stated_ones(file: Path) -> None:
    assert load(file, [], Preference).config.pairs == (("a", "b"),)
    assert load(file, ["compare=[[b, a]]"], Preference).config.pairs == (("b", "a"),)


def test_configuration_can_be_printed_and_loaded_again(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preference", "create", str(file), "ties=true", "--print-config"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    again = load(tmp_path / "printed.yaml", [], Preference).config
    assert again == load(file, ["ties=true"], Preference).config
    assert not (tmp_path / "out").exists()
