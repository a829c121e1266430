"""Selects a run's precision, and provides autocast for passes outside Lightning's steps."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule

Precision = Literal["auto", "32-true", "bf16-mixed"]
"""Values of ``training.precision``."""


def has_bf16_units(device: str) -> bool:
    """Return whether a device multiplies matrices faster in bf16 than in fp32.

    This is true of GPUs and of CPUs with AMX-BF16 or AVX512-BF16.
    """
    if device != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def resolve_precision(precision: Precision, accelerator: str) -> Literal["32-true", "bf16-mixed"]:
    """Resolve "auto" to "bf16-mixed" if bf16 is faster on the device, and to "32-true" otherwise."""
    if precision != "auto":
        return precision
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if has_bf16_units("cuda" if on_gpu else "cpu") else "32-true"


def inference_dtype(precision: Precision, device: str) -> torch.dtype:
    """Return the dtype of matrix products for sampling with a run on a device, given its ``training.precision``."""
    resolved = resolve_precision(precision, "cpu" if device == "cpu" else "auto")
    return torch.bfloat16 if resolved == "bf16-mixed" else torch.float32


def inference_autocast(precision: Precision, device: str) -> torch.autocast:
    """Return an autocast context for sampling outside the trainer, with the precision that the previews use."""
    enabled = inference_dtype(precision, device) is torch.bfloat16
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def autocast(module: LightningModule) -> torch.autocast:
    """Return an autocast context in the precision of the module's trainer, for passes outside Lightning's steps."""
    return torch.autocast(module.device.type, torch.bfloat16, enabled="bf16" in str(module.trainer.precision))
