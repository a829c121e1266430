"""Convert a PyTorch module to a Core ML package with torch.export and coremltools. Runs on Linux, too."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil.mil import Operation
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.export.coreml import gelu  # noqa: F401  (importing it registers the operation)

Precision = Literal["float16", "float32"]
Target = Literal["iOS17", "iOS18"]

# coremltools' default pipeline searches for patterns in about 90 passes, in time that grows faster than the graph. The
# mobile form is already written as the graph should be, so only the passes below have anything to do.
_PASSES = [
    f"common::{name}"
    for name in (
        "update_output_dtypes", "const_elimination", "noop_elimination", "sanitize_input_output_names",
        "add_conv_transpose_output_shape", "merge_consecutive_reshapes", "const_deduplication",
        "dedup_op_and_var_names", "add_fp16_cast", "update_output_dtypes", "cast_optimization", "const_elimination",
        "dead_code_elimination",
    )
]  # fmt: skip

# The fp32 path from the time ends at these: fp16 is precise enough for a matrix product's inputs.
_MATRIX_PRODUCTS = {"conv", "conv_transpose", "linear", "matmul", "einsum"}


@dataclass(frozen=True)
class Graph:
    """A module to convert.

    Attributes:
        module: Takes the inputs as positional arguments.
        inputs: Example inputs, under the names that Core ML shows, in the order of the module's arguments.
        outputs: Names that Core ML shows for the outputs.
        exact: Inputs from which everything up to the first matrix product is computed in fp32 in any precision,
            such as the time: fp16 would change its cosines by up to 0.2, and the preconditioning's factors with them.
        palettes: The 2^bits values of quantized layers' weights, by layer name.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    exact: tuple[str, ...] = ()
    palettes: Mapping[str, Tensor] = field(default_factory=dict)


class Fp16Selector:
    """Operation selector for ``FP16ComputePrecision``: excludes operations on the path of exact inputs.

    Args:
        exact: Names of the exact inputs.
    """

    def __init__(self, exact: Sequence[str]) -> None:
        self.exact = set(exact)
        self.cache: dict[Any, bool] = {}

    def __call__(self, operation: Operation) -> bool:
        """Whether the operation may run in fp16."""
        return not self.on_exact_path(operation)

    def on_exact_path(self, operation: Operation) -> bool:
        """Whether the operation depends on an exact input without a matrix product in between."""
        if operation.op_type in _MATRIX_PRODUCTS:
            return False
        if operation not in self.cache:
            self.cache[operation] = any(
                self.on_exact_path(value.op) if value.op is not None else value.name in self.exact
                for argument in operation.inputs.values()
                for value in (argument if isinstance(argument, list | tuple) else (argument,))
            )
        return self.cache[operation]


def convert(graph: Graph, path: Path, precision: Precision, target: Target) -> None:
    """Write the package ``path``, a new folder with the suffix .mlpackage. Its inputs and outputs are float32.

    Raises:
        RunError: Core ML does not support an operation (the message names it), or the disk is full.
    """
    compute_precision: dict[Precision, Any] = {
        "float16": ct.transform.FP16ComputePrecision(op_selector=Fp16Selector(graph.exact)),
        "float32": ct.precision.FLOAT32,
    }
    for layer, values in graph.palettes.items():
        mark_palettized(graph.module.get_submodule(layer), values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # The empty table keeps einsum, pixel_shuffle and others from being decomposed.
            program = torch.export.export(graph.module.eval(), tuple(graph.inputs.values())).run_decompositions({})
            ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, target),
                compute_precision=compute_precision[precision],
                skip_model_load=True,
                inputs=[
                    ct.TensorType(name=name, shape=value.shape, dtype=np.float32)
                    for name, value in graph.inputs.items()
                ],
                outputs=[ct.TensorType(name=name, dtype=np.float32) for name in graph.outputs],
                pass_pipeline=ct.PassPipeline(list(_PASSES), "pocketdit"),
                package_dir=str(path),
            )
        except OSError:
            raise
        except Exception as error:  # coremltools raises KeyError, ValueError, NotImplementedError and others
            reason = " ".join(str(error).split())
            if "FileWriter" in reason or "filesystem error" in reason:  # these messages do not state why writing failed
                free = shutil.disk_usage(path.parent).free / 1e6
                raise RunError(f"{path}: cannot be written; {free:.1f} MB are free on its disk") from error
            raise RunError(f"{path.stem}: cannot be converted to Core ML: {type(error).__name__}: {reason}") from error


def mark_palettized(layer: nn.Module, values: Tensor) -> None:
    """Tell coremltools that the layer's weight takes only these values, in the form that its own quantizers use.

    It then stores indices and a palette (``constexpr_lut_to_dense``) without changing the weight.
    """
    rank = layer.get_parameter("weight").ndim
    layer.register_buffer("_COREML_/weight/compression_type", torch.tensor([2]))
    layer.register_buffer("_COREML_/weight/lut", values.float().reshape(*[1] * rank, -1, 1))
