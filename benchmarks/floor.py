"""Measures the floor of a computation: the cost of its matrix products, convolutions and attention kernels alone."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

Product = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Records matrix products, convolutions and attention kernels with their operands."""

    KERNELS: ClassVar[frozenset[str]] = frozenset(
        {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.products: list[Product] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and record it if it is part of the floor."""
        name = func.overloadpacket.__name__
        if name in self.KERNELS or name.startswith("_scaled_dot_product"):
            self.products.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def replay(products: Sequence[Product]) -> None:
    """Run recorded operations again."""
    for function, args, kwargs in products:
        function(*args, **kwargs)


def count_flops(products: Sequence[Product]) -> int:
    """Count the FLOPs of recorded operations."""
    with FlopCounterMode(display=False) as counter:
        replay(products)
    flops: int = counter.get_total_flops()
    return flops
