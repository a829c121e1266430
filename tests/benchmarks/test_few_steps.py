"""The comparison of few-step models: what it reads, how it counts, what it refuses."""

import pytest

from benchmarks.few_steps import Entry, main, parse, table
from pocketdit.errors import ConfigError


def test_entries_are_read() -> None:
    assert parse("28 steps=kd:28") == Entry("28 steps", ("kd",), 28, None)
    assert parse("DMD=a/1,a/2") == Entry("DMD", ("a/1", "a/2"), None, None)
    assert parse("x=kd:4:1.5") == Entry("x", ("kd",), 4, 1.5)
    assert parse("x=kd:4:1:euler") == Entry("x", ("kd",), 4, 1.0, "euler")
    for wrong in ("kd", "=kd", "x=kd:four", "x=kd:4:1:ulre", "x=kd:1.5", "x=kd:0", "x=kd:4:1.2.3", "x=,", "x=:4"):
        with pytest.raises(ConfigError, match="expected LABEL"):
            parse(wrong)


def test_table_gives_mean_spread_and_share_of_the_first() -> None:
    entries = [parse("28 steps=a:28"), parse("K-DMD=b,c,d")]
    text = table(entries, [{0.5: [0.5]}, {0.5: [0.4, 0.5, 0.6]}])
    assert "0.500" in text and "0.500 ± 0.100 (1.00)" in text and "scene-rules" in text


def test_a_missing_run_is_one_line(tmp_path, capsys: pytest.CaptureFixture) -> None:  # type: ignore[no-untyped-def]
    assert main(["x=nothing", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "no run nothing" in error and error.count("\n") == 1
