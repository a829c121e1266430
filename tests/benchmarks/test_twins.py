"""Tests that the benchmarks that train small networks parse their options, train, and print their tables."""

import re
from pathlib import Path

import pytest

from pocketdit.errors import ConfigError
from tests.conftest import NewDatabase

QUICK = ("data.init_args.batch_size=4", "data.init_args.workers=0", "data.init_args.validation_samples=4")


def options(scenes: Path, folder: Path, steps: int = 2) -> list[str]:
    return ["--steps", str(steps), "--seeds", "0", "--data", str(scenes), "--runs", str(folder), "--set", *QUICK]


@pytest.mark.slow
def test_query_groups(
    scenes: Path, tmp_path: Path, new_database: NewDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import query_groups

    new_database(tmp_path)
    query_groups.main(options(scenes, tmp_path))
    first = capsys.readouterr().out
    assert re.search(r"^0 +adjacent( +0\.\d{4}){3}$", first, re.M)
    assert re.search(r"^mean +difference( +[+-]0\.\d{4}){3}$", first, re.M)
    query_groups.main(options(scenes, tmp_path))  # reuses the finished runs
    again = capsys.readouterr().out
    assert "has already finished" in again
    assert again.splitlines()[-6:] == first.splitlines()[-6:]
    with pytest.raises(ConfigError):
        query_groups.main([*options(scenes, tmp_path), "optimizer.init_args.lr=1e-4"])


@pytest.mark.slow
def test_ladder_twin(
    scenes: Path, tmp_path: Path, new_database: NewDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import ladder_twin

    new_database(tmp_path)
    ladder_twin.main(options(scenes, tmp_path))
    out = capsys.readouterr().out
    assert [
        title for title in ladder_twin.TITLES.values() if re.search(rf"^{re.escape(title)} .* 0\.5", out, re.M)
    ] == [*ladder_twin.TITLES.values()]
    assert "(C) with ASSA to (D) enhanced: " in out


@pytest.mark.slow  # imports diffusers
def test_twins_of_the_ladder_have_about_as_many_parameters() -> None:
    from benchmarks.ladder_twin import twins
    from pocketdit.training.cost import parameters_by_width

    counts = [parameters_by_width(spec)[1.0] for spec in twins().values()]
    assert max(counts) / min(counts) < 1.2


def test_search_prefers_the_shipped_ladder_among_those_that_follow_the_text() -> None:
    """All statements of the text hold, except that C and D differ in width, and all counts are within 5%."""
    from benchmarks import ladder_search

    chosen = ladder_search.chosen()
    assert chosen.worst < ladder_search.TOLERANCE
    assert [name for name, holds in chosen.text.items() if not holds] == [ladder_search.WIDTH]
    assert chosen.enhanced == (9, 11, 10)
    assert chosen.three_stage == (7, 15, 8)


def test_search_counts_what_the_network_has() -> None:
    from benchmarks.ladder_search import PAPER, chosen
    from pocketdit.config.experiment import Experiment
    from pocketdit.config.load import load
    from pocketdit.training.cost import parameters_by_width

    for letter, count in chosen().counts.items():
        spec = load(PAPER / f"ladder_{letter.lower()}.yaml", [], Experiment, classes=False).config.backbone
        assert count == pytest.approx(parameters_by_width(spec)[1.0] / 1e6)


@pytest.mark.slow
def test_elastic_twin(
    scenes: Path, tmp_path: Path, new_database: NewDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import elastic_twin

    new_database(tmp_path)
    elastic_twin.main([*options(scenes, tmp_path), "--images", "0"])
    out = capsys.readouterr().out
    for recipe, model in (("standalone", "0.5x"), ("standalone", "1x"), ("elastic", "0.5x"), ("elastic", "1x")):
        assert re.search(rf"^{recipe} +{model} .* 0\.\d{{4}} ", out, re.M)
    assert out.count("MiB") == 3
