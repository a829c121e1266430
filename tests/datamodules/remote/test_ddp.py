"""Two DDP processes train on an S3 server with latency, lost connections, refusals, and answers that are cut off."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.storage_proxy import Fault, StorageProxy
from datamodules.remote.cache import ShardCache

_SCRIPT = """
import hashlib, json, sys, warnings
from pathlib import Path

import pocketdit  # must come first: it prepares torchvision for CPU builds of torch
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.shards.module import ShardDataModule

warnings.simplefilter("ignore")
data, out, steps, checkpoint = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] or None


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.losses, self.validated = [], [], []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = (self.weight - batch["images"].float().mean() / 255).square().sum()
        self.manual_backward(loss)
        optimizer.step()
        digest = hashlib.sha256(batch["images"].numpy().tobytes() + repr(batch["captions"]).encode()).hexdigest()
        self.seen.append([batch["ids"].tolist(), digest])
        self.losses.append(loss.item().hex())

    def validation_step(self, batch, batch_idx):
        self.validated += batch["ids"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


model = Recorder()
module = ShardDataModule(data, batch_size=4, workers=1, window=3, crop="random")
saver = ModelCheckpoint(out, every_n_train_steps=7, save_top_k=-1, filename="{step}")
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_steps=steps, max_epochs=-1, logger=False,
    callbacks=[saver], enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    val_check_interval=steps, check_val_every_n_epoch=None,
)
trainer.fit(model, module, ckpt_path=checkpoint, weights_only=True)
record = {
    "seen": model.seen, "losses": model.losses, "weight": model.weight.item().hex(), "validated": model.validated,
    "epoch": module.batches_per_epoch,
}
(out / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))
"""


@contextlib.contextmanager
def _training(folder: Path, data: str, steps: int, checkpoint: str = "") -> Iterator["subprocess.Popen[str]"]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(_SCRIPT)
    path = os.pathsep.join([*(entry for entry in sys.path if entry), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), data, str(folder), str(steps), checkpoint]
    # A separate process group, so that the second rank and the workers of both end as well.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _run(folder: Path, data: str, steps: int, checkpoint: str = "") -> list[dict[str, Any]]:
    with _training(folder, data, steps, checkpoint) as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


class _Watch:
    """A context manager that measures a cache on the disk again and again, and records the largest size."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.largest, self._is_over = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._is_over.wait(0.005):
            size = 0
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self._folder):
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat().st_size if entry.name.endswith((".tar", ".partial")) else 0
            self.largest = max(self.largest, size)


def _wait_for_file(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over fork")
def test_two_ranks_on_a_faulty_server_equal_a_local_run_also_when_killed_and_resumed(
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    moto_port: int,
    s3_environment: Callable[[int], None],
    cache_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset(train=70, validation=9, samples_per_shard=5)
    address = upload(data)
    largest = max(path.stat().st_size for path in data.rglob("*.tar"))
    # Two windows of three shards, and a shard for validation. The data set has 14 shards.
    limit = 7 * largest
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", str(limit))
    local = _run(tmp_path / "local", str(data), 24)
    per_epoch = local[0]["epoch"]
    assert 2 * per_epoch <= 24
    for epoch in range(2):
        steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        assert sorted(row for rank in local for rows, _ in rank["seen"][steps] for row in rows) == list(range(70))

    faults: dict[Fault, float] = {"reset": 0.1, "503": 0.1, "cut": 0.1}
    with (
        StorageProxy(moto_port, latency=0.02, faults=faults, seed=1) as proxy,
        _Watch(cache_folder / "shards") as watch,
    ):
        s3_environment(proxy.port)
        with _training(tmp_path / "killed", address, 24) as process:
            _wait_for_file(tmp_path / "killed" / "step=7.ckpt", process)
        # A partial file left behind by a worker that was killed while downloading.
        leftover = cache_folder / "shards" / f"{'0' * 32}-{largest}.partial"
        leftover.write_bytes(b"half")
        resumed = _run(tmp_path / "resumed", address, 24, str(tmp_path / "killed" / "step=7.ckpt"))
        assert set(proxy.injected) == set(faults)
    for rank in range(2):
        for name in ("seen", "losses"):
            assert resumed[rank][name] == local[rank][name][7:]
        for name in ("weight", "validated"):
            assert resumed[rank][name] == local[rank][name]
    cache = ShardCache(cache_folder / "shards", limit)
    assert 0 < watch.largest <= limit
    assert 0 < cache.usage().peak <= limit
    assert cache.usage().removed > 0
    assert not leftover.exists()
    assert cache.occupied() <= limit
