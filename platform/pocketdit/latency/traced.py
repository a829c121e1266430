"""The census of a network's mobile form without exporting it: its functions, recorded on the meta device in seconds.

An exported bundle's own census is the better one (it counts what the converter made of the functions); this one serves
where no bundle exists yet.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pocketdit.backbones.spec import DiTSpec
from pocketdit.export.census import MOVES, Census, OperationCost
from pocketdit.mobile.dit import MobileDiT

# Core ML's names of PyTorch's functions, where they differ.
_KINDS = {
    "conv2d": "conv", "conv_transpose2d": "conv_transpose", "mean": "reduce_mean", "cat": "concat", "chunk": "split",
    "flatten": "reshape", "view": "reshape", "getitem": "slice_by_index", "_pad": "pad", "square": "mul",
    "rsub": "sub", "radd": "add", "rmul": "mul", "div": "real_div", "truediv": "real_div", "unsqueeze": "expand_dims",
}  # fmt: skip
_MATRIX = {"conv", "conv_transpose", "einsum"}


def traced(spec: DiTSpec, width: float, size: tuple[int, int], tokens: int, **form: Any) -> Census:
    """The census of one denoising step of a sub-network, in fp16.

    ``size``: of the latents (height, width). ``tokens``: of the text, with the learned one. ``form``: as
    ``MobileDiT`` takes them. ``ValueError`` where the network does not take the size.
    """
    standalone = replace(spec, width=spec.hidden(width), widths=(1.0,))
    with torch.device("meta"):
        network = MobileDiT(standalone, size, **form).half().to("meta")
        inputs = [
            torch.empty(shape, dtype=torch.float16)
            for shape in (
                (1, spec.latent_channels, *size),
                (1,),
                (1, spec.text_width, 1, tokens),
                (1, tokens, 1, 1),
            )
        ]
    constants = [*network.parameters(), *network.buffers()]
    with torch.no_grad(), _Recorder({id(value) for value in constants}) as recorder:
        network(*inputs)
    return Census(tuple(recorder.operations), sum(value.nbytes for value in constants))


class _Recorder(TorchFunctionMode):
    """Records every function that returns tensors; nested ones count with the outermost."""

    def __init__(self, constants: set[int]) -> None:
        super().__init__()
        self.constants = constants
        self.operations: list[OperationCost] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = list(_tensors(result))
        given = list(_tensors((*args, *(kwargs or {}).values())))
        # Properties such as shape give no tensor, tables that are built in __init__ are no part of the graph.
        if outputs and given:
            self.operations.append(self.cost(func.__name__, args, given, outputs))
        return result

    def cost(self, function: str, args: tuple[Any, ...], given: list[Tensor], outputs: list[Tensor]) -> OperationCost:
        kind = function.strip("_")
        kind = _KINDS.get(kind, kind)
        weights = [value for value in given if id(value) in self.constants]
        return OperationCost(
            name=f"{kind}_{len(self.operations)}",
            kind=kind,
            shape=tuple(outputs[0].shape),
            flops=_flops(kind, args, given, outputs[0]),
            input_bytes=sum(value.nbytes for value in given if id(value) not in self.constants),
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


def _flops(kind: str, args: tuple[Any, ...], given: list[Tensor], output: Tensor) -> int:
    """As ``export.census`` counts them."""
    match kind:
        case "conv":
            return 2 * output.numel() * math.prod(given[1].shape[1:])
        case "conv_transpose":
            return 2 * given[0].numel() * math.prod(given[1].shape[1:])
        case "einsum":
            labels = args[0].split("->")[0].split(",")
            sides = {name: side for names, value in zip(labels, given, strict=True)
                     for name, side in zip(names, value.shape, strict=True)}  # fmt: skip
            return 2 * math.prod(sides.values())
        case "softmax":
            return 4 * output.numel()
        case "reduce_mean":
            return given[0].numel()
        case _ if kind in MOVES:
            return 0
        case _:
            return output.numel()
