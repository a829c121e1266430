"""Tests that SQLite and PostgreSQL store every answer once, even if several raters answer at the same time."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from evaluation.contract import Prompt
from evaluation.preference.design import Comparison
from evaluation.preference.storage.database import connect
from evaluation.preference.storage.store import Store
from evaluation.preference.tokens import digest, new_token
from pocketdit.errors import RunError

PROMPTS = [Prompt("x", "a circle"), Prompt("y", "a star")]


def plan(rater: int) -> list[Comparison]:
    return [Comparison("pair", 0, "a", "b"), Comparison("pair", 1, "b", "a"), Comparison("noise", rater % 2, "a", "")]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'study.db'}" if is_sqlite else request.getfixturevalue("postgres")
    store = Store(connect(url), uuid.uuid4().hex)
    store.create({"questions": ["realism"]}, PROMPTS, ["a", "b"], [0, 1])
    yield store
    store.engine.dispose()


def rater(store: Store) -> int:
    token = digest(new_token())
    store.add_rater(token, plan)
    key = store.rater(token)
    assert key is not None
    return key


def test_answers_replace_earlier_ones(store: Store) -> None:
    own = rater(store)
    (first, second, third), total = store.progress(own, 2)
    assert total == 3
    assert store.record(own, first, {"realism": "left", "fidelity": "right"})
    assert store.record(own, first, {"realism": "right"})
    assert store.progress(own, 2) == ([second, third], 3)
    shown = store.comparison(own, first)
    assert shown is not None
    assert shown.answers == {"realism": "right", "fidelity": "right"}
    assert (shown.text, shown.position, shown.total) == ("a circle", 0, 3)
    assert (shown.before, shown.after) == (None, second)
    images = store.images()
    assert (shown.left, shown.right) == (images[0, "a"], images[0, "b"])


def test_other_raters_and_studies_are_separate(store: Store) -> None:
    own, other = rater(store), rater(store)
    (first, *_), _ = store.progress(own, 1)
    assert not store.record(other, first, {"realism": "left"})
    assert store.comparison(other, first) is None
    assert store.comparison(own, first).answers == {}  # type: ignore[union-attr]
    elsewhere = Store(store.engine, uuid.uuid4().hex)
    assert elsewhere.study() is None
    elsewhere.create({}, PROMPTS, ["a", "b"], [0, 1])
    assert not set(elsewhere.images().values()) & set(store.images().values())
    token = digest(new_token())
    store.add_rater(token, plan)
    assert elsewhere.rater(token) is None
    assert store.shows(own, store.images()[0, "a"])
    assert not store.shows(own, elsewhere.images()[0, "a"])


def test_raters_who_begin_at_the_same_time_have_different_numbers(store: Store) -> None:
    tokens = [digest(new_token()) for _ in range(12)]
    barrier = threading.Barrier(12)

    def add(token: str) -> int:
        barrier.wait()
        return store.add_rater(token, plan)

    with ThreadPoolExecutor(12) as pool:
        numbers = list(pool.map(add, tokens))
        assert sorted(numbers) == list(range(12))
        assert list(pool.map(add, tokens)) == numbers  # the same tokens find the same raters
    assert len({store.rater(token) for token in tokens}) == 12


def test_same_answer_sent_at_the_same_time_is_stored_once(store: Store) -> None:
    own = rater(store)
    (first, *_), _ = store.progress(own, 1)
    with ThreadPoolExecutor(8) as pool:
        choices = ["left", "right"] * 20
        assert all(pool.map(lambda choice: store.record(own, first, {"realism": choice}), choices))
    with store.reading() as connection:
        count = text("SELECT count(*) FROM preference_answer WHERE comparison = :id")
        assert connection.execute(count, {"id": first}).scalar() == 1


def test_sqlite_is_durable(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'deeper' / 'study.db'}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_damaged_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database, but long enough to have a header" * 50)
    with pytest.raises(RunError, match=r"storage: sqlite:///.*study\.db does not respond: file is not a database"):
        connect(f"sqlite:///{tmp_path / 'study.db'}")


def test_dead_server_is_one_line() -> None:
    with pytest.raises(
        RunError, match=r"storage: postgresql\+psycopg2://u@127\.0\.0\.1:9/x does not respond: .*refused"
    ):
        connect("postgresql://u@127.0.0.1:9/x")
