"""A PyTorch module to a Core ML package: torch.export, then coremltools' ML program. Runs on Linux, too."""

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
from pocketdit.export import gelu  # noqa: F401  (registers itself)

Precision = Literal["float16", "float32"]
Target = Literal["iOS17", "iOS18"]

# coremltools' default pipeline searches for patterns in some 90 passes, in time that grows faster than the graph. The
# mobile form is written as the graph should be, so only these have something to do; layers stay as they are written.
_PASSES = [
    f"common::{name}"
    for name in (
        "update_output_dtypes", "const_elimination", "noop_elimination", "sanitize_input_output_names",
        "add_conv_transpose_output_shape", "merge_consecutive_reshapes", "const_deduplication",
        "dedup_op_and_var_names", "add_fp16_cast", "update_output_dtypes", "cast_optimization", "const_elimination",
        "dead_code_elimination",
    )
]  # fmt: skip

# What ends the fp32 path of the time: a matrix product of fp16 numbers is as good as of fp32 ones.
_PRODUCTS = {"conv", "conv_transpose", "linear", "matmul", "einsum"}


@dataclass(frozen=True)
class Graph:
    """A module with example inputs, and the names under which Core ML shows inputs and outputs.

    ``exact``: inputs of which everything up to the first matrix product is computed in fp32 in any precision: the
    time, whose cosines fp16 would get wrong by up to 0.2, and with it the factors of the preconditioning.
    ``palettes``: of layers by name, the values (2^bits,) that every weight of the layer is one of.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    exact: tuple[str, ...] = ()
    palettes: Mapping[str, Tensor] = field(default_factory=dict)


class Fp16Selector:
    """For ``FP16ComputePrecision``: whether an operation may be in fp16. It may not on the path of ``exact`` inputs."""

    def __init__(self, exact: Sequence[str]) -> None:
        self.exact = set(exact)
        self.found: dict[Any, bool] = {}

    def __call__(self, operation: Operation) -> bool:
        return not self.on_path(operation)

    def on_path(self, operation: Operation) -> bool:
        if operation.op_type in _PRODUCTS:
            return False
        if operation not in self.found:
            self.found[operation] = any(
                self.on_path(value.op) if value.op is not None else value.name in self.exact
                for argument in operation.inputs.values()
                for value in (argument if isinstance(argument, list | tuple) else (argument,))
            )
        return self.found[operation]


def convert(graph: Graph, path: Path, precision: Precision, target: Target) -> None:
    """Write the package ``path`` (a new folder that ends in .mlpackage); inputs and outputs are float32.

    Raises ``RunError`` naming the operation where there is one that Core ML does not have.
    """
    kinds: dict[Precision, Any] = {
        "float16": ct.transform.FP16ComputePrecision(op_selector=Fp16Selector(graph.exact)),
        "float32": ct.precision.FLOAT32,
    }
    for layer, values in graph.palettes.items():
        announce_palette(graph.module.get_submodule(layer), values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Without the empty table einsum, pixel_shuffle and others would be taken apart.
            program = torch.export.export(graph.module.eval(), tuple(graph.inputs.values())).run_decompositions({})
            ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, target),
                compute_precision=kinds[precision],
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
        except Exception as error:  # coremltools raises of all kinds: KeyError, ValueError, NotImplementedError, ...
            reason = " ".join(str(error).split())
            if "FileWriter" in reason or "filesystem error" in reason:  # say no more than that writing failed
                free = shutil.disk_usage(path.parent).free / 1e6
                raise RunError(f"{path} could not be written: {free:.1f} MB are free on its disk") from error
            raise RunError(f"{path.stem}: cannot be converted to Core ML: {type(error).__name__}: {reason}") from error


def announce_palette(layer: nn.Module, values: Tensor) -> None:
    """Tell coremltools, in the form that its own quantisers leave behind, that the layer's weight is a palette's.

    It then stores indices and palette (``constexpr_lut_to_dense``); weights that are values of the palette stay exact.
    """
    rank = layer.get_parameter("weight").ndim
    layer.register_buffer("_COREML_/weight/compression_type", torch.tensor([2]))
    layer.register_buffer("_COREML_/weight/lut", values.float().reshape(*[1] * rank, -1, 1))
