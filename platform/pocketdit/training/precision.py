"""The precision of a run: bf16 where it is faster, and autocast outside of Lightning's steps."""

import torch
from lightning.pytorch import LightningModule


def has_bf16_units(device: str) -> bool:
    """Return whether a device multiplies matrices faster in bf16 than in fp32.

    GPUs do, and so do CPUs with AMX-BF16 or AVX512-BF16.
    """
    if device != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's name of a precision; "auto" becomes "bf16-mixed" where bf16 is faster, else "32-true"."""
    if precision != "auto":
        return precision
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if has_bf16_units("cuda" if on_gpu else "cpu") else "32-true"


def autocast(module: LightningModule) -> torch.autocast:
    """Return autocast in the precision of the module's trainer, for forward passes outside Lightning's steps."""
    return torch.autocast(module.device.type, torch.bfloat16, enabled="bf16" in str(module.trainer.precision))
