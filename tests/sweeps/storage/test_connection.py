"""Tests that database errors are reported in one line."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy.exc

from pocketdit.errors import RunError, UserError
from sweeps.storage.connection import open_storage, storage_errors
from tests.sweeps.study import loaded


def test_database_error_does_not_reveal_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    sweep = loaded(tmp_path, storage="postgresql+psycopg2://me:${oc.env:DB_PASSWORD}@db/x").config
    assert "hunter2" in sweep.url
    with pytest.raises(RunError, match="does not respond: the server is gone") as caught, storage_errors(sweep):
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("the server is gone"))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("v2.4.0.a", "by an older version of Optuna; back them up, and upgrade them with: optuna storage upgrade"),
        ("c48cb773bb87", "by a newer version of Optuna or by another program; choose another database"),
    ],
)
def test_tables_of_another_version_are_reported_in_one_line(tmp_path: Path, revision: str, message: str) -> None:
    sweep = loaded(tmp_path).config
    open_storage(sweep).remove_session()
    with sqlite3.connect(sweep.url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(RunError, match=message) as caught:
        open_storage(sweep)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [("postgresql+psycopg2://me@127.0.0.1:1/x", "does not respond"), ("nosql://x", "storage: nosql")],
)
def test_storage_that_cannot_be_opened_is_reported_in_one_line(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_storage(loaded(tmp_path, storage=url).config)
    assert "\n" not in str(caught.value)
