import json
import socket
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from pocketdit.errors import ConfigError
from pocketdit.tracking import target
from pocketdit.tracking.journal import read_metrics
from pocketdit.tracking.logger import RunLogger, flatten


def mlflow_run(store: str, run_folder: Path) -> Run:
    stored = target.load(run_folder)
    assert stored is not None
    assert stored.run_id is not None
    return MlflowClient(store).get_run(stored.run_id)


def test_resumed_run_continues_the_same_mlflow_run(store: str, run_folder: Path) -> None:
    config = {"backbone": {"widths": [1.0, 0.5], "levels": [{"depth": 2}, {"depth": 3}]}, "long": "x" * 9000}
    (run_folder / "samples").mkdir()
    Image.new("RGB", (64, 32), "blue").save(run_folder / "samples" / "10.png")
    logger = RunLogger(run_folder, store, "logger", fingerprint="f00")
    logger.log_hyperparams(Namespace(**config))
    for step in range(20):
        logger.log_metrics({"loss": 1 / (step + 1), "epoch": torch.tensor(0)}, step)  # type: ignore[dict-item]  # Lightning also logs tensors
    logger.log_image("samples/0.5", run_folder / "samples" / "10.png", 10)
    logger.finalize("failed")

    client = MlflowClient(store)
    run = mlflow_run(store, run_folder)
    assert run.info.run_name == "pretrain/first"
    assert run.info.status == "FAILED"
    assert run.data.params["backbone.levels.1.depth"] == "3"
    assert run.data.params["backbone.widths"] == "[1.0, 0.5]"
    assert len(run.data.params["long"]) == 6000
    tags = run.data.tags
    assert (tags["experiment"], tags["resumed"], tags["data.fingerprint"]) == ("pretrain", "false", "f00")
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert len(images) == 2
    assert all(name.startswith("images/samples~0.5+step+10+") for name in images)

    resumed = RunLogger(run_folder, store, "logger", fingerprint="f00")
    resumed.log_hyperparams({**config, "long": "other"})
    for step in range(15, 30):
        resumed.log_metrics({"loss": 1 / (step + 1)}, step)
    (run_folder / "weights.safetensors").write_bytes(b"weights")
    resumed.log_artifact(run_folder / "weights.safetensors", "model")
    resumed.finalize("success")

    final = mlflow_run(store, run_folder)
    assert final.info.run_id == run.info.run_id
    assert final.info.status == "FINISHED"
    assert (final.data.tags["resumed"], final.data.tags["resumed.long"]) == ("true", "other")
    assert len(final.data.params["long"]) == 6000
    sent = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
    assert sent == [(step, 1 / (step + 1)) for step in range(30)]
    assert sent == read_metrics(run_folder / "metrics.jsonl")["loss"]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "model")] == ["model/weights.safetensors"]


class OneWeight(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = (self.weight * batch).sum()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trainer_logs_and_finalizes_the_run(store: str, run_folder: Path) -> None:
    logger = RunLogger(run_folder, store, "lightning")
    Trainer(
        max_steps=4, accelerator="cpu", logger=logger, log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(OneWeight(), torch.ones(8, 1))  # fmt: skip
    assert [step for step, _ in read_metrics(run_folder / "metrics.jsonl")["train/loss"]] == [0, 1, 2, 3]
    run = mlflow_run(store, run_folder)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] == pytest.approx(0.7)
    assert Path(logger.save_dir, logger.name, logger.version) == run_folder


def test_unreachable_server_causes_no_delay_and_no_loss(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.chdir(run_folder.parents[2])
    logger = RunLogger(Path("runs/pretrain/first"), uri, "dead")
    logger.log_hyperparams({"lr": 0.1})
    times = []
    for step in range(200):
        start = time.perf_counter()
        logger.log_metrics({f"m{index}": float(index) for index in range(10)}, step)
        times.append(time.perf_counter() - start)
        time.sleep(0.01)
    assert sorted(times)[-5] < 0.05, "more than four calls were slow (a few may wait for a core on a busy machine)"
    start = time.perf_counter()
    logger.finalize("success")
    assert time.perf_counter() - start < 10
    lines = (run_folder / "metrics.jsonl").read_bytes().count(b"\n")
    assert lines > 2000
    assert capsys.readouterr().err == (
        f"{lines} events were not sent to {uri} (Connection refused); they are kept in "
        f"runs/pretrain/first/metrics.jsonl; send them with: lightning sync runs/pretrain/first --to {uri}\n"
    )


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Yield the URI of a server that accepts connections, but never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_silent_server_delays_finalize_by_at_most_the_timeout(
    run_folder: Path, silent_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(run_folder, silent_server, "silent", close_seconds=2.0)
    start = time.perf_counter()
    for step in range(100):
        logger.log_metrics({"loss": 1.0}, step)
    assert time.perf_counter() - start < 1.0
    start = time.perf_counter()
    logger.finalize("success")
    assert 2.0 <= time.perf_counter() - start < 6.0
    assert capsys.readouterr().err.startswith(
        f"{len(list((run_folder / 'metrics.jsonl').open()))} events were not sent"
    )


def test_only_rank_zero_writes(store: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = RunLogger(run_folder, store)
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_tag("a", "b")
    logger.finalize("success")
    assert list(run_folder.iterdir()) == []


def test_invalid_arguments_are_clear_errors(store: str, run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        RunLogger(run_folder, "mlruns")
    with pytest.raises(ValueError, match="not in the run folder"):
        RunLogger(run_folder, store).log_artifact(run_folder.parent / "elsewhere.png")


def test_flatten_lists_every_setting_once() -> None:
    nested = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": None}, 3], "g": "text"}
    assert json.dumps(dict(flatten(nested))) == json.dumps(
        {"a.b": "1", "d": "[1, 2]", "e.0.f": "None", "e.1": "3", "g": "text"}
    )
