"""Tests that a foreign run folder cannot control where ``lightning sync`` sends data, or which files it sends."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking import target
from pocketdit.tracking.events import Artifact, Image, encode
from pocketdit.tracking.journal import Journal
from pocketdit.tracking.shipper import Sender
from pocketdit.tracking.sync import sync, sync_command


@pytest.fixture
def tracked(run_folder: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run that was tracked in ``store``, in a project that trusts no trackers."""
    monkeypatch.chdir(run_folder.parents[2])
    target.open_target(run_folder, store, "trust", "run")
    Journal(run_folder / "metrics.jsonl").log_metrics({"loss": 1.0}, 0)
    return run_folder


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////somewhere/else.db", "postgresql://host/db"])
def test_a_server_that_the_folder_names_is_refused(tracked: Path, uri: str) -> None:
    target.open_target(tracked, uri, "trust", "run")
    with pytest.raises(ConfigError, match=r"if you trust it, send the run with: lightning sync .* --to ") as caught:
        sync(tracked)
    assert uri in str(caught.value)
    assert "trackers under [trust] in pocketdit.toml" in str(caught.value)


def test_a_server_that_the_user_confirms_is_used(tracked: Path, store: str) -> None:
    with pytest.raises(ConfigError):
        sync(tracked)
    (tracked / "config.yaml").write_text("experiment: pretrain\n")  # this file identifies the folder as a run
    assert main(["sync", str(tracked), "--to", store]) == 0
    Path("pocketdit.toml").write_text(f'[trust]\ntrackers = ["{store}"]\n')
    Journal(tracked / "metrics.jsonl").log_metrics({"loss": 2.0}, 1)
    assert sync(tracked) == 1
    assert sync_command(tracked, store) == f"lightning sync {tracked}"


@pytest.mark.parametrize("event", [Image("grid", "PATH", 0, 1.0), Artifact("PATH", "")])
@pytest.mark.parametrize("kind", ["absolute", "parent", "link", "link in a folder"])
def test_a_file_outside_the_folder_is_never_sent(
    tracked: Path, store: str, event: Image | Artifact, kind: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private")
    (tracked / "link").symlink_to(secret)
    (tracked / "folder").symlink_to(tmp_path)
    path = {
        "absolute": str(secret),
        "parent": f"../../../{secret.name}",
        "link": "link",
        "link in a folder": f"folder/{secret.name}",
    }[kind]
    line = encode(event).replace(b"PATH", json.dumps(path)[1:-1].encode())
    with (tracked / "metrics.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(RunError, match="outside the run folder"):
        sync(tracked, store)
    stored = target.load(tracked)
    assert stored is not None
    assert stored.offset == 0  # no event was sent
    with pytest.raises(RunError, match="outside the run folder"):
        Sender(tracked, store).send_all()  # a resumed run calls this in the background
    stored = target.load(tracked)
    assert stored is not None
    assert stored.run_id is not None
    assert [item.path for item in MlflowClient(store).list_artifacts(stored.run_id)] == []


@pytest.mark.parametrize("path", ["loop", "a\0b"])
def test_a_path_that_cannot_be_resolved_is_refused_in_a_line(tracked: Path, store: str, path: str) -> None:
    (tracked / "loop").symlink_to("loop")
    with (tracked / "metrics.jsonl").open("ab") as file:
        file.write(encode(Artifact(path, "")))
    if path == "loop":
        assert sync(tracked, store) == 1  # only the metric is sent, because the link points to itself
    else:
        with pytest.raises(RunError, match="outside the run folder"):
            sync(tracked, store)


def test_a_database_next_to_the_run_is_not_trusted(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is copied with the run determines where MLflow stores files, here in the user's home folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    uri = f"sqlite:///{tracked.absolute().parent.parent / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("trust", home.as_uri())
    (tracked / "profile").write_text("evil")
    target.open_target(tracked, uri, "trust", "run")
    Journal(tracked / "metrics.jsonl").log_artifact("profile")
    with pytest.raises(ConfigError, match="is not a trusted tracker"):
        sync(tracked)
    assert list(home.iterdir()) == []
    assert sync_command(tracked, uri).endswith(f"--to {uri}")


def test_the_target_file_contains_no_password(run_folder: Path) -> None:
    stored = target.open_target(run_folder, "http://me:hunter2@127.0.0.1:9", "trust", "run")
    assert stored.uri == "http://me:***@127.0.0.1:9"
    assert "hunter2" not in (run_folder / "tracking.json").read_text()
    assert target.open_target(run_folder, "http://me:hunter2@127.0.0.1:9", "trust", "run") == stored
    Journal(run_folder / "metrics.jsonl").log_metrics({"loss": 1.0}, 0)
    with pytest.raises(ConfigError, match=r"at http://me:\*\*\*@127\.0\.0\.1:9; pass the complete URI with: .*--to"):
        sync(run_folder)
    with pytest.raises(RunError) as caught:
        sync(run_folder, "http://me:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(caught.value)
