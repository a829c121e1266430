"""Stops a run and saves the batch if a loss or a gradient is not finite."""

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
    """Stop the run if a value is NaN or infinite.

    Call this function before the optimizer step, so that the weights and the last checkpoint remain valid.

    Args:
        values: Mapping from names to losses or gradient norms.
        batch: The batch that produced the values. It is saved to ``nonfinite/`` in the run folder.
        module: The stage being trained.

    Raises:
        RunError: A value is not finite.
    """
    if bool(torch.stack([value.detach().isfinite().all() for value in values.values()]).all()):
        return
    bad = ", ".join(name for name, value in values.items() if not bool(value.isfinite().all()))
    folder = Path(module.trainer.default_root_dir)
    stem = folder / "nonfinite" / f"step-{module.global_step:06d}-rank-{module.global_rank}"
    tensors = {key: value.contiguous().cpu() for key, value in batch.items() if isinstance(value, Tensor)}
    write_atomically(stem.with_suffix(".safetensors"), save(tensors))
    others = {key: value for key, value in batch.items() if not isinstance(value, Tensor)}
    write_atomically(stem.with_suffix(".json"), json.dumps(others, indent=1))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    state = f"the last checkpoint is {checkpoint}" if checkpoint.exists() else "no checkpoint has been saved yet"
    raise RunError(
        f"step {module.global_step}: {bad} is not finite; the batch was saved to {stem}.safetensors and .json; {state}"
    )
