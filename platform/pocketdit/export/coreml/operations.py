"""Implementations of MIL operations in torch. Parameters have the same names as in the MIL reference (iOS16 to iOS18).

Floating-point tensors are fp32, and the interpreter rounds the results to the declared type. Integers, booleans and
strings are Python objects.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve x (B, C, H, W). ``pad`` contains the padding at the top, bottom, left and right."""
    if pad_type == "custom":
        x = F.pad(x, (pad[2], pad[3], pad[0], pad[1]))
    elif pad_type != "valid":
        raise NotImplementedError(f"pad_type={pad_type} is not supported")
    return F.conv2d(x, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
    output_shape: Sequence[int] | None = None,
) -> Tensor:
    """Compute a transposed convolution. The result is cropped by ``pad``. The caller checks ``output_shape``."""
    if pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"pad_type={pad_type} is not supported")
    full = F.conv_transpose2d(x, weight, bias, tuple(strides), 0, 0, groups, tuple(dilations))
    top, bottom, left, right = pad if pad_type == "custom" else (0, 0, 0, 0)
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Compute a matrix product. The last two axes of x and y can be transposed first."""
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y else y)


def layer_norm(
    x: Tensor, axes: Sequence[int], gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Apply LayerNorm over ``axes``. ``gamma`` and ``beta`` have one dimension for each of the axes."""
    axes = sorted(axis % x.ndim for axis in axes)
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    centered = x - x.mean(axes, keepdim=True)
    out = centered * torch.rsqrt(centered.square().mean(axes, keepdim=True) + epsilon)
    out = out if gamma is None else out * gamma.reshape(shape)
    return out if beta is None else out + beta.reshape(shape)


def split(x: Tensor, axis: int, num_splits: int = 0, split_sizes: Sequence[int] = ()) -> Sequence[Tensor]:
    """Split an axis into parts of the sizes ``split_sizes`` or into ``num_splits`` equal parts."""
    sizes = list(split_sizes) or [x.shape[axis] // num_splits] * num_splits
    return torch.split_with_sizes(x, sizes, axis)


def slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    """Slice all axes. A masked ``begin`` or ``end`` is ignored. A squeezed axis is indexed at ``begin``."""
    unmasked = [False] * x.ndim
    axes = zip(
        begin, end, stride or [1] * x.ndim, begin_mask or unmasked, end_mask or unmasked, squeeze_mask or unmasked,
        strict=True,
    )  # fmt: skip
    index: list[int | slice] = []
    for first, last, step, from_start, to_end, squeezed in axes:
        if step < 1:
            raise NotImplementedError(f"stride={step} is not supported")
        index.append(first if squeezed else slice(None if from_start else first, None if to_end else last, step))
    return x[tuple(index)]


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pad with a constant.

    ``pad`` contains two numbers per axis, the padding before and after it. If there are fewer pairs than axes, the
    pairs apply to the last axes.
    """
    if mode != "constant":
        raise NotImplementedError(f"mode={mode} is not supported")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return F.pad(x, [side for pair in reversed(pairs) for side in pair], value=constant_val)


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Apply GELU, either exactly or with the tanh approximation."""
    approximations = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    if mode not in approximations:
        raise NotImplementedError(f"mode={mode} is not supported")
    return F.gelu(x, approximate=approximations[mode])


def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Repeat the rows and columns of x (B, C, H, W)."""
    return F.interpolate(x, scale_factor=(float(scale_factor_height), float(scale_factor_width)), mode="nearest")


def concat(values: Sequence[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """Concatenate tensors along an axis."""
    if interleave:
        raise NotImplementedError("interleave=true is not supported")
    return torch.cat(list(values), axis)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Compute 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


def expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Insert axes of size 1. ``axes`` contains the indices of the new axes in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def gather(x: Tensor, indices: Any, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Select slices along an axis. In the result, the axes of ``indices`` replace this axis."""
    if batch_dims:
        raise NotImplementedError(f"batch_dims={batch_dims} is not supported")
    places = torch.as_tensor(indices).long()
    axis %= x.ndim
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "pow": lambda x, y: x**y,
    "maximum": lambda x, y: torch.maximum(torch.as_tensor(x), torch.as_tensor(y)),
    "minimum": lambda x, y: torch.minimum(torch.as_tensor(x), torch.as_tensor(y)),
    "square": lambda x: x * x,
    "sqrt": lambda x: x.sqrt(),
    "rsqrt": rsqrt,
    "abs": lambda x: x.abs(),
    "exp": lambda x: x.exp(),
    "cos": lambda x: x.cos(),
    "sin": lambda x: x.sin(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "silu": lambda x: F.silu(x),
    "relu": lambda x: x.relu(),
    "leaky_relu": lambda x, alpha: F.leaky_relu(x, alpha),
    "gelu": gelu,
    "clip": lambda x, alpha, beta: x.clamp(alpha, beta),
    "softmax": lambda x, axis: x.softmax(axis),
    "reduce_mean": lambda x, axes, keep_dims=False: x.mean(axes, keepdim=keep_dims),
    "reduce_sum": lambda x, axes, keep_dims=False: x.sum(axes, keepdim=keep_dims),
    "reduce_max": lambda x, axes, keep_dims=False: x.amax(axes, keepdim=keep_dims),
    "layer_norm": layer_norm,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": matmul,
    "einsum": lambda values, equation: torch.einsum(equation, *values),
    "cast": lambda x, dtype: x,
    "identity": lambda x: x,
    "reshape": lambda x, shape: x.reshape(tuple(shape)),
    "transpose": lambda x, perm: x.permute(tuple(perm)),
    "expand_dims": expand_dims,
    "squeeze": lambda x, axes: x.squeeze(tuple(axes)),
    "concat": concat,
    "split": split,
    "slice_by_index": slice_by_index,
    "gather": gather,
    "pad": pad,
    "tile": lambda x, reps: x.repeat(*reps),
    "fill": lambda shape, value=0.0: torch.full(tuple(shape), value),
    "pixel_shuffle": lambda x, upscale_factor: F.pixel_shuffle(x, upscale_factor),
    "pixel_unshuffle": lambda x, downscale_factor: F.pixel_unshuffle(x, downscale_factor),
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
