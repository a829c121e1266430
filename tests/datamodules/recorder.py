"""Trains on two ranks, and records the batches that each rank reads. ``recording`` runs this module as a script.

    python -m tests.datamodules.recorder DATA OUT STEPS [CHECKPOINT]

The script forks both ranks, so that the libraries are imported only once.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pocketdit  # noqa: F401  (imported first so that torchvision works with a CPU build of torch)

# isort: split
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from benchmarks.storage_server import free_port
from datamodules.shards.module import ShardDataModule

RANKS = 2


class Recorder(LightningModule):
    """A model with one weight. It records the rows, a hash of the images and captions, and the loss of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[list[int], str]] = []
        self.losses: list[str] = []
        self.validated: list[int] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss = (self.weight - batch["images"].float().mean() / 255).square().sum()
        self.manual_backward(loss)
        optimizer.step()
        content = batch["images"].numpy().tobytes() + repr(batch["captions"]).encode()
        self.seen.append((batch["ids"].tolist(), hashlib.sha256(content).hexdigest()))
        self.losses.append(loss.item().hex())

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated += batch["ids"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(data: str, out: Path, steps: int, checkpoint: str | None) -> None:
    """Train as the rank in LOCAL_RANK, save a checkpoint every seven steps, and write OUT/rankN.json."""
    warnings.simplefilter("ignore")
    model = Recorder()
    module = ShardDataModule(data, batch_size=4, workers=1, window=3, crop="random")
    trainer = Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[ModelCheckpoint(out, every_n_train_steps=7, save_top_k=-1, filename="{step}")],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=steps,
        check_val_every_n_epoch=None,
    )
    trainer.fit(model, module, ckpt_path=checkpoint, weights_only=True)
    record = {
        "seen": model.seen,
        "losses": model.losses,
        "weight": float(model.weight.item()).hex(),
        "validated": model.validated,
        "batches_per_epoch": module.batches_per_epoch,
    }
    (out / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))


def main() -> None:
    data, out, steps, *checkpoint = sys.argv[1:]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    other = os.fork()
    os.environ["LOCAL_RANK"] = "0" if other else "1"
    train(data, Path(out), int(steps), checkpoint[0] if checkpoint else None)
    if other and os.waitpid(other, 0)[1]:
        sys.exit("rank 1 has failed")


@contextlib.contextmanager
def recording(folder: Path, data: str, steps: int, checkpoint: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Run this module as a script in a separate process for the duration of the block."""
    folder.mkdir()
    path = os.pathsep.join([*(entry for entry in sys.path if entry), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.datamodules.recorder",
        data,
        str(folder),
        str(steps),
        *([str(checkpoint)] if checkpoint else []),
    ]
    # Start a separate process group, so that killing it also ends the second rank and the workers of both ranks.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def record(folder: Path, data: str, steps: int, checkpoint: Path | None = None) -> list[dict[str, Any]]:
    """Train in a separate process to the last step, and return the records of both ranks."""
    with recording(folder, data, steps, checkpoint) as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(RANKS)]


if __name__ == "__main__":
    main()
