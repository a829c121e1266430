"""Tests for publishing a run to a stand-in for the Hub and pulling the run from it."""

import json
import shutil
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from pocketdit.errors import RunError
from pocketdit.files import sha256_of
from pocketdit.hub.upload import upload
from tests.hub.conftest import write_run
from tests.hub.stand_in import StandInHub

NAME = "alice/tiny"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def publish(run: RunFolder, *options: str, name: str = NAME) -> int:
    return main(["publish", str(run.path), "--hub", name, *options])


def pull(runs: Path, name: str = NAME, *options: str) -> int:
    return main(["pull", name, "--runs", str(runs), *options])


@pytest.fixture(scope="module")
def folder(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published folder of the run."""
    target = tmp_path_factory.mktemp("published") / "tiny"
    assert main(["publish", str(run.path), "--to", str(target)]) == 0
    return target


@pytest.fixture
def published(hub: StandInHub, folder: Path) -> StandInHub:
    """A stand-in for the Hub to which the run was published."""
    upload(folder, NAME, public=False, replace=False, message="Publish")
    return hub


def test_published_run_is_pulled_with_the_same_weights(
    hub: StandInHub, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(run, "--license", "apache-2.0") == 0
    repository = hub.repositories[NAME]
    assert repository.private
    assert len(repository.commits) == 2, "one commit must create the repository, and a second one must publish"
    card = hub.files(NAME)["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "Pictures by Example Authors" in card
    assert pull(tmp_path / "runs") == 0
    pulled = RunFolder(tmp_path / "runs" / NAME)
    assert sha256_of(pulled.weights) == sha256_of(run.weights)
    assert (pulled.path / "NOTICE.txt").read_text() == (run.path / "NOTICE.txt").read_text()
    assert pulled.finished_steps() == 6
    assert f"lightning sample {NAME} " in capsys.readouterr().out
    before = len(hub.requests)
    assert pull(tmp_path / "runs") == 0, "pulling the same commit again must change nothing"
    assert not any("resolve" in request for request in hub.requests[before:])


@pytest.mark.slow
def test_pulled_run_gets_the_same_scores(
    published: StandInHub, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "score.yaml"
    settings.write_text(
        """
        evaluation: scenes
        run: ""
        subject: {class_path: evaluation.subjects.run.Run, init_args: {run: "${run}", width: 0.5, steps: 2}}
        prompts:
          scenes: {class_path: evaluation.prompts.scenes.SceneGenEval, init_args: {count: 6}}
        metrics:
          - class_path: evaluation.metrics.geneval.metric.GenEval
            init_args:
              prompts: scenes
              detector: {class_path: evaluation.scenes.judges.detector.SceneDetector}
              colors: {class_path: evaluation.scenes.judges.colors.SceneColorReader}
        """
    )
    assert pull(tmp_path / "runs") == 0
    results = []
    for index, path in enumerate((run.path, tmp_path / "runs" / NAME)):
        out = tmp_path / f"evaluations-{index}"
        tracking = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
        assert main(["evaluate", str(settings), f"run={path}", f"out={out}", tracking]) == 0
        results.append(json.loads(next(out.rglob("results.json")).read_text()))
    ours, theirs = (result["results"] for result in results)
    assert ours == theirs
    made = [result["made"]["scenes"]["weights_sha256"] for result in results]
    assert made[0] == made[1]


def test_upload_that_breaks_off_publishes_nothing_and_resumes(hub: StandInHub, folder: Path) -> None:
    """Break the connection at each request of an upload in turn, and upload again each time."""
    upload(folder, NAME, public=False, replace=False, message="Publish")
    count, complete = len(hub.requests), hub.files(NAME)
    assert count >= 8
    weights = sha256_of(folder / WEIGHTS)
    for dead_from in range(count):
        hub.repositories.clear()
        hub.objects.clear()
        hub.requests.clear()
        hub.uploaded.clear()
        hub.dead_from = dead_from
        with pytest.raises(RunError, match="nothing was published; run the command again") as caught:
            upload(folder, NAME, public=False, replace=False, message="Publish")
        assert "\n" not in str(caught.value)
        assert NAME not in hub.repositories or hub.files(NAME) == {}, dead_from
        hub.dead_from = None
        upload(folder, NAME, public=False, replace=False, message="Publish")
        assert hub.files(NAME) == complete
        assert hub.uploaded.count(weights) == 1, "the weights must not be sent again"
        assert len(hub.repositories[NAME].commits) == 2


def test_commit_whose_response_was_lost_is_not_repeated(hub: StandInHub, folder: Path) -> None:
    hub.lost_response = "/commit/"
    with pytest.raises(RunError):
        upload(folder, NAME, public=False, replace=False, message="Publish")
    hub.lost_response = None
    address = upload(folder, NAME, public=False, replace=False, message="Publish")
    commits = hub.repositories[NAME].commits
    assert len(commits) == 2
    assert address.endswith(commits[-1][0])


def test_token_does_not_leak(
    hub: StandInHub,
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    assert publish(run) == 0
    assert pull(tmp_path / "runs") == 0
    output = capsys.readouterr()
    assert "hf_of_alice" not in output.out + output.err + caplog.text
    written = [path for root in (tmp_path, run.path) for path in root.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hf_of_alice" in path.read_bytes()]
    assert not [name for name, data in hub.files(NAME).items() if b"hf_of_alice" in data]


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("", NAME, "HF_TOKEN: not set"),
        ("hf_wrong", NAME, "does not accept the token in HF_TOKEN"),
        ("hf_of_bob", NAME, "has no permission"),
        ("hf_of_alice", "tiny", "must have the form USER/NAME"),
        ("hf_of_alice", "../../tiny", "must have the form USER/NAME"),
    ],
)
def test_publish_errors_are_one_line(
    hub: StandInHub,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str,
    name: str,
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert publish(run, name=name) != 0
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("lightning publish: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in error
    assert hub.repositories == {}


def test_existing_repository_is_replaced_only_on_request(
    published: StandInHub, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(tmp_path / "runs", ["sampling.steps=7"])
    assert publish(other) == 2
    assert "add --replace" in capsys.readouterr().err
    assert len(published.repositories[NAME].commits) == 2
    assert publish(other, "--replace") == 0
    assert len(published.repositories[NAME].commits) == 3
    assert "samples.png" not in published.files(NAME), "the same commit must delete files of the previous run"


def test_dry_run_lists_files_and_contacts_nobody(
    hub: StandInHub, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert publish(run, "--dry-run") == 0
    output = capsys.readouterr().out
    assert WEIGHTS in output
    assert "nothing was published" in output
    assert hub.requests == []


def test_interrupted_download_resumes(published: StandInHub, tmp_path: Path) -> None:
    size = len(published.files(NAME)[WEIGHTS])
    published.requests.clear()
    published.cut_after = size // 2
    assert pull(tmp_path / "runs") == 0
    assert (tmp_path / "runs" / NAME / "weights.safetensors").is_file()
    assert not (tmp_path / "runs" / "alice" / ".tiny.partial").exists()


def test_dead_server_leaves_a_download_that_resumes(
    published: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.requests.clear()
    published.dead_from = 6
    assert pull(tmp_path / "runs") == 1
    assert "run the command again to resume" in capsys.readouterr().err
    assert not (tmp_path / "runs" / NAME).exists()
    published.dead_from = None
    published.requests.clear()
    assert pull(tmp_path / "runs") == 0
    fetched = [request for request in published.requests if request.startswith("GET") and "pocketdit.json" in request]
    assert fetched == [], "complete files must not be downloaded again"


@pytest.mark.parametrize(
    "path", ["../outside.txt", "/etc/outside", "run/../../outside", "a\\b", ".hidden/file", "C:/x"]
)
def test_escaping_paths_are_refused(
    published: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    files = published.repositories[NAME].commits[-1][1]
    manifest = json.loads(files["pocketdit.json"])
    manifest["files"][path] = {"size": 1, "sha256": "0" * 64}
    files["pocketdit.json"] = json.dumps(manifest).encode()
    assert pull(tmp_path / "runs") == 1
    assert "unsafe path" in capsys.readouterr().err
    assert not (tmp_path / "runs" / NAME).exists()


def test_changed_weights_are_refused(published: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = published.repositories[NAME]
    digest = repository.commits[-1][1][WEIGHTS].decode()
    published.objects[digest] = b"x" * len(published.objects[digest])
    assert pull(tmp_path / "runs") == 1
    assert f"{WEIGHTS} is damaged" in capsys.readouterr().err
    assert not (tmp_path / "runs" / NAME).exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pocketdit.stages.elastic_pretrain.ElasticPretrain", "os.system", "is not trusted"),
        ("experiment: tiny", "experiment: ${oc.env:HOME}", "interpolation"),
        ("width: 64", "width: sixty", "width"),
    ],
)
def test_untrusted_configuration_is_refused_before_the_weights_are_downloaded(
    published: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    import hashlib

    files = published.repositories[NAME].commits[-1][1]
    text = files["run/config.yaml"].decode().replace(old, new).encode()
    assert text != files["run/config.yaml"]
    files["run/config.yaml"] = text
    manifest = json.loads(files["pocketdit.json"])
    manifest["files"]["run/config.yaml"] = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    files["pocketdit.json"] = json.dumps(manifest).encode()
    published.requests.clear()
    assert pull(tmp_path / "runs") != 0
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not any("safetensors" in request for request in published.requests)


def test_nothing_executable_is_downloaded(published: StandInHub, tmp_path: Path) -> None:
    published.repositories[NAME].commits[-1][1]["run/evil.py"] = b"raise SystemExit"
    published.requests.clear()
    assert pull(tmp_path / "runs") == 0
    assert not [request for request in published.requests if ".py" in request]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alice/missing", [], "not found"),
        (NAME, ["--revision", "none"], "this revision does not exist"),
    ],
)
def test_pull_errors_are_one_line(
    published: StandInHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
    message: str,
) -> None:
    assert pull(tmp_path / "runs", name, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_private_repository_of_another_user_is_not_found(
    published: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_bob")
    assert pull(tmp_path / "runs") == 1
    assert "not found" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert pull(tmp_path / "runs") == 1


def test_repository_that_pocketdit_did_not_publish_is_refused(
    published: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del published.repositories[NAME].commits[-1][1]["pocketdit.json"]
    assert pull(tmp_path / "runs") == 1
    assert "so it was not published with `lightning publish`" in capsys.readouterr().err


def test_folder_that_was_not_pulled_is_kept(
    published: StandInHub, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / NAME)
    assert pull(tmp_path / "runs") == 2
    assert "was not pulled from the Hub" in capsys.readouterr().err
