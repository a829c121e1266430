"""What happens when a loss or a gradient is not finite: stop, keep the last good checkpoint, save the batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from safetensors.torch import save
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.files import write_atomically


def stop_unless_finite(values: Mapping[str, Tensor], batch: Mapping[str, Any], module: LightningModule) -> None:
    """Raise ``RunError`` naming what is not finite, with the batch saved in the run folder's ``nonfinite/``.

    The check comes before the optimizer's step, so weights and checkpoint stay good.
    """
    if bool(torch.stack([value.detach().isfinite().all() for value in values.values()]).all()):
        return
    bad = ", ".join(name for name, value in values.items() if not bool(value.isfinite().all()))
    folder = Path(module.trainer.default_root_dir) / "nonfinite"
    stem = folder / f"step-{module.global_step:06d}-rank-{module.global_rank}"
    tensors = {key: value.contiguous().cpu() for key, value in batch.items() if isinstance(value, Tensor)}
    write_atomically(stem.with_suffix(".safetensors"), save(tensors))
    words = {key: value for key, value in batch.items() if not isinstance(value, Tensor)}
    write_atomically(stem.with_suffix(".json"), json.dumps(words, indent=1))
    raise RunError(
        f"step {module.global_step}: {bad} is not finite; the batch is in {stem}.safetensors and .json, "
        f"the last good state in {module.trainer.default_root_dir}/checkpoints/last.ckpt"
    )
