"""Where bf16 pays."""

import torch


def has_bf16_units(device: str) -> bool:
    """Whether a device multiplies matrices in bf16 faster than in fp32: GPUs, and processors with the instructions."""
    if device != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Lightning's name of a precision; "auto" is "bf16-mixed" where bf16 is faster, else "32-true"."""
    if wanted != "auto":
        return wanted
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if has_bf16_units("cuda" if on_gpu else "cpu") else "32-true"
