"""Convert a PyTorch module to a Core ML package with torch.export and coremltools. This also works on Linux."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil.mil import Operation
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.export.common.graph import Graph
from pocketdit.export.coreml import alias, gelu  # noqa: F401  (the import registers the operations)

Precision = Literal["float16", "float32"]
Target = Literal["iOS17", "iOS18"]

# The default pipeline of coremltools searches for patterns in about 90 passes, and its running time grows faster than
# linearly with the size of the graph. The mobile form already has the structure that the graph should have, so these
# passes suffice.
_PASSES = [
    f"common::{name}"
    for name in (
        "update_output_dtypes", "const_elimination", "noop_elimination", "sanitize_input_output_names",
        "add_conv_transpose_output_shape", "merge_consecutive_reshapes", "const_deduplication",
        "dedup_op_and_var_names", "add_fp16_cast", "update_output_dtypes", "cast_optimization", "const_elimination",
        "dead_code_elimination",
    )
]  # fmt: skip

# The fp32 path from the time input ends at these operations. fp16 is precise enough for their inputs.
_MATRIX_PRODUCTS = {"conv", "conv_transpose", "linear", "matmul", "einsum"}


class Fp16Selector:
    """Operation selector for ``FP16ComputePrecision`` that excludes operations on the path of exact inputs.

    Args:
        exact: Names of the exact inputs.
    """

    def __init__(self, exact: Sequence[str]) -> None:
        self.exact = set(exact)
        self.cache: dict[Any, bool] = {}

    def __call__(self, operation: Operation) -> bool:
        """Return whether the operation is converted to fp16."""
        return not self.on_exact_path(operation)

    def on_exact_path(self, operation: Operation) -> bool:
        """Return whether the operation depends on an exact input without a matrix product in between."""
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
    """Convert a graph and write the package to ``path``. Floating-point inputs and outputs of the package are float32.

    Args:
        graph: Graph to convert.
        path: Path of the new package, which must end with .mlpackage.
        precision: Precision of weights and arithmetic.
        target: Minimum deployment target.

    Raises:
        RunError: Core ML does not support an operation that the graph contains, or the disk is full.
    """
    compute_precision: dict[Precision, Any] = {
        "float16": ct.transform.FP16ComputePrecision(op_selector=Fp16Selector(graph.exact)),
        "float32": ct.precision.FLOAT32,
    }
    for layer, palette in graph.palettes.items():
        mark_palettized(graph.module.get_submodule(layer), palette.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # With an empty decomposition table, operations such as einsum and pixel_shuffle are not decomposed.
            program = torch.export.export(graph.module.eval(), tuple(graph.inputs.values())).run_decompositions({})
            ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, target),
                compute_precision=compute_precision[precision],
                skip_model_load=True,
                inputs=[
                    ct.TensorType(
                        name=name, shape=value.shape, dtype=np.float32 if value.is_floating_point() else np.int32
                    )
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
            if "FileWriter" in reason or "filesystem error" in reason:  # these messages omit the cause
                free = shutil.disk_usage(path.parent).free / 1e6
                raise RunError(f"{path}: cannot be written; the disk has {free:.1f} MB of free space") from error
            raise RunError(f"{path.stem}: cannot be converted to Core ML: {type(error).__name__}: {reason}") from error


def _input_type(value: Tensor) -> type[np.generic]:
    return np.float32 if value.is_floating_point() else np.int32


def mark_palettized(layer: nn.Module, values: Tensor) -> None:
    """Mark the weight of a layer as palettized, in the same way as the quantizers of coremltools.

    coremltools then stores indices and a palette (``constexpr_lut_to_dense``) without changing the weight.

    Args:
        layer: Layer whose weight contains no other values than ``values``.
        values: The 2^bits values of the palette.
    """
    rank = layer.get_parameter("weight").ndim
    layer.register_buffer("_COREML_/weight/compression_type", torch.tensor([2]))
    layer.register_buffer("_COREML_/weight/lut", values.float().reshape(*[1] * rank, -1, 1))
