from pathlib import Path

import pytest

from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking import target


def test_absolute_uri_resolves_a_relative_database_and_keeps_other_uris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert target.absolute_uri("sqlite:///runs/mlflow.db") == absolute
    for uri in (
        absolute,
        "http://localhost:5000",
        "https://a.example/mlflow",
        "postgresql+psycopg://u:p@h/db",
    ):
        assert target.absolute_uri(uri) == uri
    assert target.artifact_root(absolute) == f"file://{tmp_path}/runs/mlartifacts"
    assert target.artifact_root("http://localhost:5000") is None


@pytest.mark.parametrize("uri", ["", "mlruns", "runs/mlflow.db", "file:///some/mlruns", "sqlite:", "sqlite:///"])
def test_absolute_uri_rejects_uris_of_neither_a_database_nor_a_server(uri: str) -> None:
    with pytest.raises(ConfigError, match="neither a database nor a server"):
        target.absolute_uri(uri)


def test_open_target_keeps_the_stored_target_until_the_uri_changes(tmp_path: Path) -> None:
    first = target.open_target(tmp_path, "sqlite:////a/mlflow.db", "project", "run")
    sent = target.Target(**{**vars(first), "run_id": "123", "offset": 99})
    target.save(tmp_path, sent)
    assert target.open_target(tmp_path, "sqlite:////a/mlflow.db", "project", "run") == sent
    other = target.open_target(tmp_path, "http://localhost:5000", "project", "run")
    assert (other.run_id, other.offset) == (None, 0)
    assert target.load(tmp_path) == other


def test_damaged_target_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / target.FILE_NAME).write_text('{"uri": ')
    with pytest.raises(RunError, match=r"tracking\.json: cannot be read"):
        target.load(tmp_path)
