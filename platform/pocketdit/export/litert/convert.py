"""Convert a PyTorch module to a .tflite file with LiteRT Torch, and compare the outputs of the two."""

import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.export.common.comparison import NO_LIMIT, Comparison, Tolerance, compare
from pocketdit.export.common.decompositions import lerp_as_arithmetic
from pocketdit.export.common.native_output import hide_native_output
from pocketdit.export.litert.dependency import require_litert
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.files import write_atomically

WeightPrecision = Literal["float32", "float16"]


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        path: Path of the .tflite file.
        seconds: Duration of the conversion.
        bytes: Size of the file.
        operations: Number of operations in the graph.
        outputs: PyTorch's outputs for the example inputs.
        comparisons: Comparison of each LiteRT output with PyTorch's output.
    """

    path: Path
    seconds: float
    bytes: int
    operations: int
    outputs: Mapping[str, Tensor]
    comparisons: tuple[Comparison, ...]

    @property
    def error(self) -> float:
        """Largest ``max_error`` of the outputs."""
        return max(comparison.max_error for comparison in self.comparisons)

    @property
    def snr(self) -> float:
        """Smallest signal-to-noise ratio of the outputs in dB."""
        return min(comparison.snr for comparison in self.comparisons)


def convert(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    weights: WeightPrecision = "float32",
    tolerance: Tolerance = NO_LIMIT,
) -> Conversion:
    """Convert a module, compare the result with PyTorch on this CPU, and write the file if it is within the tolerance.

    Args:
        module: Module that takes keyword arguments and returns a dictionary of tensors.
        inputs: Example inputs. Their names and the names of the outputs become part of the file's signature.
        path: Path of the file to write.
        weights: Precision of the weights. The runtime chooses the precision of arithmetic, which is fp32 on this CPU.
        tolerance: Limits on the difference between each output and PyTorch's output.

    Raises:
        RunError: LiteRT does not support an operation, or an output is outside the tolerance. In both cases, no file is
            written.
        OSError: The disk is full.
    """
    require_litert()
    # The network caches tensors during its first call. If the tracer made that call, traced tensors would be cached.
    with torch.no_grad():
        expected = module.eval()(**inputs)
    started = time.perf_counter()
    with hide_native_output():
        content = _lower(module, inputs, path.name, weights)
    seconds = time.perf_counter() - started
    conversions: list[Conversion] = []

    def write_checked(temporary: Path) -> None:
        temporary.write_bytes(content)
        model = LiteRTModel(temporary)
        outputs = model(inputs)
        comparisons = tuple(compare(name, outputs[name], value) for name, value in expected.items())
        require_within(tolerance, comparisons, path)
        conversions.append(Conversion(path, seconds, len(content), model.operations, expected, comparisons))

    write_atomically(path, write_checked)
    return conversions[0]


def require_within(tolerance: Tolerance, comparisons: Iterable[Comparison], path: Path) -> None:
    """Check that all outputs are within the tolerance.

    Raises:
        RunError: An output is outside the tolerance. The message describes the first such output.
    """
    for comparison in comparisons:
        if not tolerance.accepts(comparison):
            raise RunError(
                f"{path.name}: LiteRT's output differs from PyTorch's, so nothing was written: "
                f"{tolerance.describe_violation(comparison)}"
            )


def _lower(module: nn.Module, inputs: Mapping[str, Tensor], name: str, weights: WeightPrecision) -> bytes:
    """Convert the module and return the content of the .tflite file.

    LiteRT's function for writing the file is not used, because it terminates the process if the disk is full.
    """
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    import litert_torch
    from litert_torch.fx_infra import decomp
    from litert_torch.generative.quantize.quant_recipes import full_fp16_recipe

    decomp.add_pre_convert_decomp(torch.ops.aten.lerp.Tensor, lerp_as_arithmetic)
    # With gradients enabled, the network would choose attention with shared keys, which LiteRT Torch converts
    # incorrectly.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            recipe = full_fp16_recipe() if weights == "float16" else None
            model = litert_torch.convert(module, sample_kwargs=dict(inputs), quant_config=recipe)
            return bytes(model.model_content())
        except (RuntimeError, NotImplementedError) as error:
            raise RunError(f"{name}: cannot be converted to LiteRT: {str(error).splitlines()[0]}") from error
