"""Counts the kernels that a computation launches: their FLOPs, their memory traffic, and the memory they allocate.

On the meta device, tensors have shapes but no storage, so a computation of any size can be counted on any machine. The
meta device supports neither autocast nor fused attention, so ``LikeGpu`` imitates what a GPU would do.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

KernelKind = Literal["product", "attention", "other"]

aten = torch.ops.aten
# Torch's FLOP formulas, plus the ones it lacks: those for CPU attention kernels.
FLOPS = flop_registry | {
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}


class Kernel(NamedTuple):
    """A kernel launch.

    Attributes:
        kind: "product" is a matrix product or a convolution, "attention" is fused attention, and "other" is any other
            kernel, such as an elementwise operation, a norm, a reduction, or a copy.
        flops: FLOPs of products and attention. The arithmetic of other kernels is not counted.
        bytes: Bytes that the kernel reads and writes, assuming that no data stay in a cache between kernels.
    """

    kind: KernelKind
    flops: int
    bytes: int


Kernels = Counter[Kernel]
"""Number of launches of each kernel."""


def total_flops(kernels: Kernels) -> int:
    """Return the total FLOPs of all launches."""
    return sum(kernel.flops * launches for kernel, launches in kernels.items())


def total_bytes(kernels: Kernels) -> int:
    """Return how many bytes all launches read and write in total."""
    return sum(kernel.bytes * launches for kernel, launches in kernels.items())


class KernelCounter(TorchDispatchMode):
    """Records the kernels that are launched inside the context, and the memory of the tensors that they return.

    Attributes:
        kernels: The kernels launched so far.
        live: Bytes of the tensors that were created inside the context and still exist.
        gradients: Bytes of parameter gradients, as counted by ``count_gradient``. They are included in ``live``.
        peak: Maximum of ``live`` so far.
        working_peak: Maximum of ``live`` without ``gradients`` so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # not annotated in torch
        self.kernels: Kernels = Counter()
        self.live = self.gradients = self.peak = self.working_peak = 0
        self.storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record it. Operations that only return views of their inputs launch no kernel."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs, outputs = [*tensors_in(args), *tensors_in(kwargs.values())], list(tensors_in((result,)))
        known = {id_of_storage(value) for value in inputs}
        created = [value for value in outputs if id_of_storage(value) not in known]
        for value in created:
            self._track(value)
        if created or func._schema.is_mutable:
            packet = func._overloadpacket
            flops = FLOPS[packet](*args, **kwargs, out_val=result) if packet in FLOPS else 0
            moved = sum(stored_bytes(value) for value in (*inputs, *outputs))
            self.kernels[Kernel(kernel_kind(packet.__name__, flops), flops, moved)] += 1
        return result

    def count_gradient(self, parameter: Tensor) -> None:
        """Record that a parameter's gradient has been created. Register this method as a hook on the parameter."""
        assert parameter.grad is not None
        self.gradients += parameter.grad.nbytes

    def _track(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        key, size = id_of_storage(value), storage.nbytes()
        if key in self.storages:
            return

        def release(_: object) -> None:
            del self.storages[key]
            self.live -= size

        self.storages[key] = weakref.ref(storage, release)
        self.live += size
        self.peak = max(self.peak, self.live)
        self.working_peak = max(self.working_peak, self.live - self.gradients)


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among an operation's arguments or results, including those in lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def id_of_storage(value: Tensor) -> int:
    """Return an ID that is the same for all tensors with the same storage."""
    return int(value.untyped_storage()._cdata)


def stored_bytes(value: Tensor) -> int:
    """Return how many bytes a tensor takes in memory. For an expanded tensor, this is the size of its storage."""
    return min(value.nbytes, value.untyped_storage().nbytes())


def kernel_kind(name: str, flops: int) -> KernelKind:
    """Return the kernel kind of an operation, given its name without the namespace, and its FLOPs."""
    if "attention" in name:
        return "attention"
    return "product" if flops else "other"


# The functions used in this project's networks that autocast runs in bf16 or in fp32 on CUDA devices (see "CUDA
# Op-Specific Behavior" in PyTorch's documentation). All other functions run in the dtypes of their arguments.
BF16_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {F.linear, F.conv2d, F.conv_transpose2d, F.conv3d, torch.matmul, torch.bmm, F.scaled_dot_product_attention}
)
FP32_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset({F.layer_norm, F.group_norm, F.softmax, F.mse_loss})
# Under autocast, the backbone itself casts the arguments of these functions, but on the meta device it cannot query
# the autocast dtype.
ONE_DTYPE_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset({torch.lerp, Tensor.lerp_})


class LikeGpu(TorchFunctionMode):
    """Makes computations on the meta device launch a GPU's kernels, with fused attention and, optionally, autocast.

    Args:
        autocast: Whether to imitate ``torch.autocast("cuda", torch.bfloat16)``.
    """

    def __init__(self, autocast: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # not annotated in torch
        self.autocast = autocast

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        dtype = self.argument_dtype(func, args)
        if dtype is not None:
            args = tuple(cast(value, dtype) for value in args)
            kwargs = {name: cast(value, dtype) for name, value in kwargs.items()}
        if func is F.scaled_dot_product_attention:
            return fused_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def argument_dtype(self, func: Any, args: tuple[Any, ...]) -> torch.dtype | None:
        """Return the dtype to which autocast converts the arguments of a function, or None to leave them unchanged."""
        if not self.autocast:
            return None
        if func in BF16_FUNCTIONS:
            return torch.bfloat16
        if func in ONE_DTYPE_FUNCTIONS:
            return args[0].dtype  # type: ignore[no-any-return]  # the first argument is a tensor
        return torch.float32 if func in FP32_FUNCTIONS else None


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Convert a floating-point tensor to a dtype, and return any other value unchanged."""
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Launch the kernel that PyTorch selects on a GPU: FlashAttention, or memory-efficient attention with a mask.

    The arguments are the same as for ``scaled_dot_product_attention``.
    """
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
    if attn_mask is None:
        flash = aten._scaled_dot_product_flash_attention
        output = flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
    else:
        efficient = aten._scaled_dot_product_efficient_attention
        bias = torch.zeros_like(attn_mask, dtype=query.dtype).expand(*query.shape[:-1], key.shape[-2])
        output = efficient(query, key, value, bias, query.requires_grad, dropout_p, is_causal, scale=scale)[0]
    assert isinstance(output, Tensor)
    return output
