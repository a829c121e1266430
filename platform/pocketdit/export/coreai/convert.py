"""Convert a PyTorch module to a Core AI package with torch.export and coreai-torch. This also works on Linux."""

import shutil
import warnings
from pathlib import Path
from typing import Literal

import torch
from coreai_torch import TorchConverter, get_decomp_table
from torch import nn
from torch.export import ExportedProgram

from pocketdit.errors import RunError
from pocketdit.export.common.decompositions import lerp_as_arithmetic
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.native_output import hide_native_output
from pocketdit.export.coreai.fused import COMPOSITES
from pocketdit.export.coreai.half_precision import convert_to_float16
from pocketdit.export.coreai.palettes import lookup_weights

Precision = Literal["float16", "float32"]


def convert(graph: Graph, path: Path, precision: Precision) -> None:
    """Convert a graph and write the package to ``path``. Floating-point inputs and outputs of the package are float32.

    Args:
        graph: Graph to convert.
        path: Path of the new package, which must end with .aimodel.
        precision: Precision of weights and arithmetic.

    Raises:
        RunError: Core AI does not support an operation that the graph contains, or the disk is full.
    """
    graph.module.eval()
    try:
        with warnings.catch_warnings(), hide_native_output(), lookup_weights(graph.module, graph.palettes):
            warnings.simplefilter("ignore")
            with torch.no_grad():
                # The module caches tensors in its first call. If the tracer made this call, traced tensors would be
                # cached.
                graph.module(*graph.inputs.values())
            converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
            converter.add_pytorch_module(
                graph.module,
                export_fn=lambda module: _export(module, graph, precision),
                externalize_modules=[spec for spec in COMPOSITES if _contains(graph.module, spec.target_class)],
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
            )
            program = converter.to_coreai()
    except Exception as error:  # the converter raises ValueError, RuntimeError, KeyError and others
        reason = " ".join(str(error).split())
        raise RunError(f"{path.stem}: cannot be converted to Core AI: {type(error).__name__}: {reason}") from error
    try:
        program.save_asset(path)
    except RuntimeError as error:
        free = shutil.disk_usage(path.parent).free / 1e6
        raise RunError(
            f"{path}: cannot be written ({error.__cause__ or error}); the disk has {free:.1f} MB of free space"
        ) from error


def _contains(module: nn.Module, kind: type) -> bool:
    return any(isinstance(part, kind) for part in module.modules())


def _export(module: nn.Module, graph: Graph, precision: Precision) -> ExportedProgram:
    """Trace the module with gradients enabled, so that it does not change intermediate results in place."""
    decompositions = get_decomp_table()
    decompositions[torch.ops.aten.lerp.Tensor] = lerp_as_arithmetic
    with torch.enable_grad():
        traced = torch.export.export(module, tuple(graph.inputs.values()))
        program: ExportedProgram = traced.run_decompositions(decompositions)
    if precision == "float16":
        convert_to_float16(program, [list(graph.inputs).index(name) for name in graph.exact])
    return program
