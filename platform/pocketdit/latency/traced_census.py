"""Take the census of a network's mobile form without exporting it, by tracing it on the meta device.

This takes a few seconds and is meant for networks without a bundle. The census of a bundle is more exact, because it
counts the operations that the converter generates.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pocketdit.backbones.build import build_network
from pocketdit.backbones.spec import BackboneSpec
from pocketdit.export.common.census import DATA_MOVEMENT, Census, OperationCost
from pocketdit.mobile.build import build_mobile_form

# Core ML's names of the operations that PyTorch names differently.
_KINDS = {
    "conv2d": "conv", "conv_transpose2d": "conv_transpose", "mean": "reduce_mean", "cat": "concat", "chunk": "split",
    "flatten": "reshape", "view": "reshape", "getitem": "slice_by_index", "_pad": "pad", "square": "mul",
    "rsub": "sub", "radd": "add", "rmul": "mul", "div": "real_div", "truediv": "real_div", "unsqueeze": "expand_dims",
    "to": "cast", "contiguous": "identity", "dropout": "identity", "expand": "identity",
}  # fmt: skip


def trace_census(
    spec: BackboneSpec, width: float, latent_size: tuple[int, int], text_tokens: int, **mobile_options: Any
) -> Census:
    """Take the census of one evaluation of a sub-network in fp16.

    Args:
        spec: Description of the supernet.
        width: Width of the sub-network.
        latent_size: Latent height and width.
        text_tokens: Number of text tokens, including the learned null token.
        **mobile_options: Further arguments of ``build_mobile_form``.

    Raises:
        ValueError: The network does not support the size.
    """
    with torch.device("meta"):
        built, _ = build_mobile_form(build_network(spec.standalone(width)), latent_size, **mobile_options)
        network = built.half().to("meta")
        inputs = [
            torch.empty(shape, dtype=torch.float16)
            for shape in (
                (1, spec.latent_channels, *latent_size),
                (1,),
                (1, spec.text_width, 1, text_tokens),
                (1, text_tokens, 1, 1),
            )
        ]
    return trace_module(network, *inputs)


def trace_module(module: nn.Module, *inputs: Tensor, **keywords: Any) -> Census:
    """Take the census of one evaluation of a module on the meta device."""
    constants = [*module.parameters(), *module.buffers()]
    with torch.no_grad(), _Recorder({id(value) for value in constants}) as recorder:
        module(*inputs, **keywords)
    return Census(tuple(recorder.operations), sum(value.nbytes for value in constants))


class _Recorder(TorchFunctionMode):
    """Records all calls of functions that return tensors, except calls inside other recorded functions."""

    def __init__(self, constants: set[int]) -> None:
        super().__init__()
        self.constants = constants
        self.operations: list[OperationCost] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = list(_tensors(result))
        inputs = list(_tensors((*args, *(kwargs or {}).values())))
        # Properties such as shape do not return tensors, and functions without tensor inputs are not part of the graph.
        if outputs and inputs:
            self.operations.append(self.operation_cost(func.__name__, args, inputs, outputs))
        return result

    def operation_cost(
        self, function: str, args: tuple[Any, ...], inputs: list[Tensor], outputs: list[Tensor]
    ) -> OperationCost:
        kind = function.strip("_")
        kind = _KINDS.get(kind, kind)
        weights = [value for value in inputs if id(value) in self.constants]
        return OperationCost(
            name=f"{kind}_{len(self.operations)}",
            kind=kind,
            shape=tuple(outputs[0].shape),
            flops=_flops(kind, args, inputs, outputs[0]),
            input_bytes=sum(value.nbytes for value in inputs if id(value) not in self.constants),
            output_bytes=sum(value.nbytes for value in outputs),
            weight_bytes=sum(value.nbytes for value in weights),
            weight_bits=16.0 if weights else 0.0,
        )


def _tensors(values: Any) -> Iterable[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)


def _flops(kind: str, args: tuple[Any, ...], inputs: list[Tensor], output: Tensor) -> int:
    """Count FLOPs in the same way as ``export.coreml.census``."""
    match kind:
        case "conv" | "linear":
            return 2 * output.numel() * math.prod(inputs[1].shape[1:])
        case "conv_transpose":
            return 2 * inputs[0].numel() * math.prod(inputs[1].shape[1:])
        case "einsum":
            labels = args[0].split("->")[0].split(",")
            sides = {name: side for names, value in zip(labels, inputs, strict=True)
                     for name, side in zip(names, value.shape, strict=True)}  # fmt: skip
            return 2 * math.prod(sides.values())
        case "softmax":
            return 4 * output.numel()
        case "reduce_mean":
            return inputs[0].numel()
        case _ if kind in DATA_MOVEMENT:
            return 0
        case _:
            return output.numel()
