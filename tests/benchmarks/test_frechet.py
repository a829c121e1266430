"""Tests that the Fréchet benchmark runs at small sizes, compares both values, and writes its result."""

import json
from pathlib import Path

import pytest

from benchmarks import frechet


def test_benchmark_runs_and_writes_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "frechet.json"
    frechet.main(["--quick", "--json", str(path)])
    result = json.loads(path.read_text())
    assert set(result) == {"machine", "benchmark", "rows", "ratio", "required", "met"}
    assert result["benchmark"] == "frechet"
    assert [row["dimensions"] for row in result["rows"]] == [128, 256]
    seconds = result["rows"][-1]["seconds"]
    assert result["ratio"]["median"] == pytest.approx(seconds["clean-fid"][0] / seconds["pocketdit"][0])
    assert capsys.readouterr().out.splitlines()[-1].startswith("ratio: clean-fid / ours at 256 dimensions = ")


def test_both_implementations_agree() -> None:
    pair = frechet.moments(32, 0), frechet.moments(32, 1)
    assert frechet.ours(*pair) == pytest.approx(frechet.theirs(*pair), rel=1e-7)
    assert frechet.ours(pair[0], pair[0]) < 1e-9 < frechet.ours(*pair)


def test_differing_values_raise_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "theirs", lambda first, second: 2 * frechet.ours(first, second))
    with pytest.raises(RuntimeError, match="differ"):
        frechet.compare(16, rounds=1)
