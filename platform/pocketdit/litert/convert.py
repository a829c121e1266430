"""A PyTorch module to a .tflite file by LiteRT Torch, checked against PyTorch before it gets its name."""

import math
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.files import write_atomically
from pocketdit.litert.interpreter import (
    LiteRTModel,
    native_output_hidden,
    relative_error,
    require_litert,
    signal_to_noise,
)

Weights = Literal["float32", "float16"]


@dataclass(frozen=True)
class Converted:
    """What a conversion gave. ``seconds``: of the conversion. ``bytes``: of the file. ``operations``: of its graph.

    ``error``: largest difference from PyTorch, relative to the largest output. ``snr``: dB, output over difference.
    """

    path: Path
    seconds: float
    bytes: int
    operations: int
    error: float
    snr: float


def interpolation(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """``torch.lerp`` as arithmetic: PyTorch's own decomposition ends in an operation that LiteRT Torch lacks."""
    return start + weight * (end - start)


def convert(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    weights: Weights = "float32",
    max_error: float = math.inf,
    min_snr: float = -math.inf,
) -> Converted:
    """Write ``path``, whose signature has the names of ``inputs`` and of the dictionary that the module returns.

    The file is run on this CPU and compared with PyTorch under a temporary name; it gets its own only if every output
    is within ``max_error`` and above ``min_snr`` (as ``Converted`` has them). With float16 weights, arithmetic is the
    runtime's choice: fp32 on this CPU. Raises ``RunError`` for an operation that LiteRT does not have and for a result
    that differs; ``OSError`` for a full disk.
    """
    require_litert()
    # Before the conversion: what the network caches at its first call would else be the tracer's empty tensors.
    with torch.no_grad():
        expected = module.eval()(**inputs)
    began = time.perf_counter()
    with native_output_hidden():
        content = lower(module, inputs, path.name, weights)
    seconds = time.perf_counter() - began
    found: list[Converted] = []

    def write_checked(temporary: Path) -> None:
        temporary.write_bytes(content)
        loaded = LiteRTModel(temporary)
        outputs = loaded(inputs)
        error = max(relative_error(outputs[name], value) for name, value in expected.items())
        snr = min(signal_to_noise(outputs[name], value) for name, value in expected.items())
        if not (error <= max_error and snr >= min_snr):
            raise RunError(
                f"{path}: LiteRT's result differs from PyTorch's by {error:.1e} of the largest value, {snr:.1f} dB "
                f"(allowed {max_error:g}, {min_snr:g} dB); nothing was written"
            )
        found.append(Converted(path, seconds, len(content), loaded.operations, error, snr))

    write_atomically(path, write_checked)
    return found[0]


def lower(module: nn.Module, inputs: Mapping[str, Tensor], name: str, weights: Weights) -> bytes:
    """The file's content. LiteRT's own writer would end the whole process where the disk is full."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch
    from litert_torch.fx_infra import decomp
    from litert_torch.generative.quantize.quant_recipes import full_fp16_recipe

    decomp.add_pre_convert_decomp(torch.ops.aten.lerp.Tensor, interpolation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recipe = full_fp16_recipe() if weights == "float16" else None
            model = litert_torch.convert(module, sample_kwargs=dict(inputs), quant_config=recipe)
            return bytes(model.model_content())
        except (RuntimeError, NotImplementedError) as error:
            raise RunError(f"{name}: cannot be converted to LiteRT: {str(error).splitlines()[0]}") from error
