"""Two DDP processes use each sample once per epoch, and a resumed run continues at the exact sample."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """
import json, sys, warnings
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
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.weight - 1).square().sum())
        optimizer.step()
        self.seen.append(batch["ids"].tolist())

    def validation_step(self, batch, batch_idx):
        self.validated += batch["ids"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


model = Recorder()
module = ShardDataModule(data, batch_size=4, workers=1)
saver = ModelCheckpoint(out, every_n_train_steps=7, save_top_k=-1, filename="{step}")
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_steps=steps, max_epochs=-1, logger=False,
    callbacks=[saver], enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    val_check_interval=steps, check_val_every_n_epoch=None,
)
trainer.fit(model, module, ckpt_path=checkpoint, weights_only=True)
record = {"seen": model.seen, "validated": model.validated, "epoch": module.batches_per_epoch}
(out / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))
"""


def _run(folder: Path, data: Path, steps: int, checkpoint: str = "") -> list[dict[str, Any]]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(_SCRIPT)
    path = os.pathsep.join([*(entry for entry in sys.path if entry), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(data), str(folder), str(steps), checkpoint]
    # Use a separate process group, so that a timeout also ends the second rank, which the first rank starts.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, errors = process.communicate(timeout=200)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over fork")
def test_two_ranks_divide_an_epoch_and_resume_at_the_exact_sample(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_dataset(train=40, validation=9)
    whole = _run(tmp_path / "whole", data, 14)
    per_epoch = whole[0]["epoch"]
    assert per_epoch < 14
    first_epoch = [row for rank in whole for batch in rank["seen"][:per_epoch] for row in batch]
    assert sorted(first_epoch) == list(range(40))
    assert sorted(whole[0]["validated"] + whole[1]["validated"]) == list(range(9))

    resumed = _run(tmp_path / "resumed", data, 14, str(tmp_path / "whole" / "step=7.ckpt"))
    assert [rank["seen"] for rank in resumed] == [rank["seen"][7:] for rank in whole]
