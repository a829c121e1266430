"""Tests that the report contains the hand-computed results as a page, tables, a figure and a run in MLflow."""

import csv
import io
import re
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from evaluation.preference.plans import planner
from evaluation.preference.report.summary import summarize
from evaluation.preference.report.votes import Attention, read_answers
from evaluation.preference.settings import Preference
from evaluation.preference.storage.store import Store
from evaluation.preference.tokens import digest, new_token
from pocketdit.commands.main import main
from pocketdit.config.load import Loaded
from tests.evaluation.preference.conftest import PROMPTS, Created, create_study, write_study

QUESTIONS = ("realism", "fidelity", "alignment")
OVERRIDES = ("ties=true", "checks.allowed_failures=0")


def rate(store: Store, loaded: Loaded[Preference], *, prefers: str, fails: bool = False, upto: int = 99) -> None:
    """Answer as a rater who prefers one subject for realism, the other for fidelity, and neither for alignment."""
    token = digest(new_token())
    plan = planner(loaded.config, PROMPTS)
    number = store.add_rater(token, plan)
    rater = store.rater(token)
    assert rater is not None
    identifiers, _ = store.progress(rater, 3)
    for identifier, item in list(zip(identifiers, plan(number), strict=True))[:upto]:
        side = {item.left: "left", item.right: "right"}
        other = {"left": "right", "right": "left"}
        if item.kind == "noise":
            image = other[side[""]] if not fails else side[""]
            choices = dict.fromkeys(QUESTIONS, image)
        else:
            choices = {"realism": side[prefers], "fidelity": other[side[prefers]], "alignment": "tie"}
        assert store.record(rater, identifier, choices)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on three raters who prefer a, one who prefers b, one who stopped, and one who failed the checks."""
    file = write_study(tmp_path_factory.mktemp("study"))
    loaded, store = create_study(file, *OVERRIDES)
    for prefers in ("a", "a", "a", "b"):
        rate(store, loaded, prefers=prefers)
    rate(store, loaded, prefers="b", upto=1)
    rate(store, loaded, prefers="b", fails=True)
    assert main(["preference", "report", str(file), *OVERRIDES]) == 0
    (reports,) = (loaded.config.folder / "reports").iterdir()
    return reports


def test_tables_by_hand(folder: Path) -> None:
    rates = rows(folder / "win_rates.csv")
    # Four raters answered 8 pairs each, and the rater who stopped answered one comparison, which is a pair.
    assert [
        (row["question"], row["first"], row["second"], row["wins"], row["ties"], row["losses"]) for row in rates
    ] == [
        ("realism", "a", "b", "24", "0", "9"),
        ("fidelity", "a", "b", "9", "0", "24"),
        ("alignment", "a", "b", "0", "33", "0"),
    ]
    assert [float(row["win_rate"]) for row in rates] == pytest.approx([24 / 33, 9 / 33, 0.5])
    assert {row["raters"] for row in rates} == {"5"}
    assert rates[2]["low_95"] == ""
    assert float(rates[0]["low_95"]) < 24 / 33 < float(rates[0]["high_95"])
    answers = rows(folder / "answers.csv")
    assert len(answers) == 5 * 3 * 10 + 3
    assert {row["rater"] for row in answers if row["excluded"] == "1"} == {"5"}
    kept = [row for row in answers if row["excluded"] == "0" and row["kind"] == "pair" and row["question"] == "realism"]
    assert sum(row["preferred"] == "a" for row in kept) == 24
    assert {row["choice"] for row in answers if row["question"] == "alignment" and row["kind"] == "pair"} == {"tie"}
    scores = {(row["question"], row["subject"]): float(row["score"]) for row in rows(folder / "scores.csv")}
    assert scores["realism", "a"] == pytest.approx(0.4904146)  # half the log-odds of 24 to 9
    assert scores["alignment", "a"] == pytest.approx(0)


def test_page_is_self_contained_and_states_the_exclusions(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "6 of 6 raters have started and 5 have" in page
    assert "Excluded for failing more than 0 attention checks: 1 of 6 raters." in page
    assert "The results are based on 99 votes." in page
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,)", page)
    assert "http" not in page
    assert "<script" not in page
    with Image.open(folder / "figure.png") as figure:
        assert figure.width > figure.height > 100


def test_results_are_logged_once_until_answers_change(folder: Path) -> None:
    root = folder.parents[4]
    again = ["preference", "report", str(root / "test.yaml"), *OVERRIDES]
    assert main(again) == 0
    assert list(folder.parent.iterdir()) == [folder]
    with sqlite3.connect(root / "mlflow.db") as database:
        ((uuid,),) = database.execute("SELECT run_uuid FROM runs").fetchall()
        values = dict(database.execute("SELECT key, value FROM metrics WHERE run_uuid = ?", (uuid,)).fetchall())
        (kind,) = database.execute("SELECT value FROM tags WHERE key = 'kind'").fetchone()
    assert kind == "preference"
    assert values["realism/a vs b/win_rate"] == pytest.approx(24 / 33)
    assert values["realism/bradley_terry/b"] == pytest.approx(-0.4904146)
    assert (values["raters/started"], values["raters/finished"], values["raters/excluded"]) == (6, 5, 1)
    loaded, store = create_study(root / "test.yaml", *OVERRIDES)
    rate(store, loaded, prefers="a")
    assert main(again) == 0
    assert len(list(folder.parent.iterdir())) == 2


def test_study_without_votes_is_one_line(created: Created, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preference", "report", str(file)]) == 1
    assert "the study test has not been created; create it with: lightning preference create" in capsys.readouterr().err
    loaded, store = created("checks.allowed_failures=0")
    assert main(["preference", "report", str(file)]) == 1
    assert "the study test has no answers yet" in capsys.readouterr().err
    token = digest(new_token())
    store.add_rater(token, planner(loaded.config, PROMPTS))
    rater = store.rater(token)
    assert rater is not None
    for identifier, item in zip(store.progress(rater, 3)[0], planner(loaded.config, PROMPTS)(0), strict=True):
        store.record(rater, identifier, dict.fromkeys(QUESTIONS, "left" if item.left == "" else "right"))
    assert main(["preference", "report", str(file), "checks.allowed_failures=0"]) == 1
    error = capsys.readouterr().err
    assert "no rater has both answered a pair and passed the attention checks" in error
    assert error.count("\n") == 1


def test_study_in_postgresql(created: Created, postgres: str) -> None:
    loaded, store = created("ties=true", f"storage={postgres}")
    rate(store, loaded, prefers="a")
    study = store.study()
    assert study is not None
    with store.reading() as connection:
        summary = summarize(loaded.config, read_answers(connection, study.id))
    store.engine.dispose()
    assert summary.win_rates["realism", ("a", "b")].wins == 8
    assert summary.attention == {0: Attention(2, 0, 0)}
    assert not (loaded.config.folder / "study.db").exists()
