"""Chooses among the forms of an attention computation, which are implementations that differ mainly in speed.

Which form is fastest depends on the machine. A ``Chooser`` selects one of several forms for a workload. By default,
networks use ``first_form``, whose choices never vary, so that repeated runs have identical results. A training run can
instead measure which form is fastest (training/measured_forms.py). benchmarks/attention.py compares the forms' speeds.

Shape letters: B = batch, H = query heads, G = key/value heads, N = query tokens, M = key tokens, E = channels per head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeVar

import torch

GroupedForm = Literal["shared", "folded", "repeated"]
"""How query heads share a key head: in PyTorch's kernel, by concatenating the queries, or by repeating the keys."""
LocalForm = Literal["looped", "masked", "flex"]
"""How blocks attend to their neighborhood: in a loop over blocks, with a mask, or with PyTorch's FlexAttention."""
DtypeForm = Literal["float32", "bfloat16"]
"""The dtype in which attention is computed."""
Form = GroupedForm | LocalForm | DtypeForm
ChoiceT = TypeVar("ChoiceT", bound=Form)


@dataclass(frozen=True)
class Workload:
    """The properties of an attention computation on which the speed of its forms depends.

    Attributes:
        device: Device on which the computation runs.
        dtype: Dtype of q, k, and v.
        gradient: Whether a backward pass follows.
        batch: Batch size B.
        heads: Number of query heads H.
        groups: Number of key/value heads G.
        queries: Number of query tokens N.
        keys: Number of key tokens M.
        channels: Channels per head E.
        hidden_keys: Whether a mask hides some of the keys from all queries.
        blocks: Number of blocks in blockwise neighborhood attention, or 0 if queries are not restricted to blocks.
        radius: Neighborhood radius in blocks.
    """

    device: torch.device
    dtype: torch.dtype
    gradient: bool
    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    channels: int
    hidden_keys: bool = False
    blocks: int = 0
    radius: int = 0


class Chooser(Protocol):
    """Selects the form that a computation uses."""

    def __call__(self, workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
        """Return one of the forms, the first of which is the default."""
        ...


def first_form(workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
    """Return the default form."""
    return forms[0]


class AttentionForms(NamedTuple):
    """The forms that an attention layer uses for one workload.

    Attributes:
        dtype: Dtype in which attention is computed.
        grouped: Form of attention to all keys.
        local: Form of the local branch, if there is one.
        block: Form of the attention of each block in a loop over blocks.
    """

    dtype: torch.dtype
    grouped: GroupedForm = "shared"
    local: LocalForm = "masked"
    block: GroupedForm = "shared"


# With fewer tokens per block, a single masked attention is faster than a loop over blocks (benchmarks/attention.py).
LOOP_FROM_BLOCK_TOKENS = 16


def dtype_forms(workload: Workload) -> Sequence[DtypeForm]:
    """Return the dtypes in which a CPU can compute attention for bf16 inputs, the default first.

    Without AMX, PyTorch's CPU kernel is rarely faster in bf16, and its backward pass is up to ten times slower.
    """
    if workload.gradient:
        return ("float32",)
    has_amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    return ("bfloat16", "float32") if has_amx else ("float32", "bfloat16")


def grouped_forms(workload: Workload) -> Sequence[GroupedForm]:
    """Return the forms of grouped attention, the default first.

    On a CPU, "shared" is usually the fastest form with a backward pass, and "folded" without one. PyTorch's GPU kernels
    do not accept both a mask and shared keys.
    """
    if workload.heads == workload.groups:
        return ("shared",)
    if workload.device.type != "cuda":
        return ("shared", "folded", "repeated") if workload.gradient else ("folded", "shared", "repeated")
    return ("folded", "repeated") if workload.hidden_keys else ("folded", "shared", "repeated")


def local_forms(workload: Workload) -> Sequence[LocalForm]:
    """Return the forms of blockwise neighborhood attention, the default first. FlexAttention requires a GPU."""
    has_long_blocks = workload.queries >= workload.blocks * LOOP_FROM_BLOCK_TOKENS
    forms: Sequence[LocalForm] = ("looped", "masked") if has_long_blocks else ("masked", "looped")
    return (*forms, "flex") if workload.device.type == "cuda" else forms


def choose_dtype(choose: Chooser, workload: Workload) -> Workload:
    """Choose the dtype in which attention is computed, and return the workload with this dtype."""
    if workload.device.type != "cpu" or workload.dtype is not torch.bfloat16:
        return workload
    form = choose(workload, dtype_forms(workload))
    return replace(workload, dtype=torch.float32 if form == "float32" else torch.bfloat16)


def choose_grouped(choose: Chooser, workload: Workload) -> GroupedForm:
    """Choose how query heads share a key head."""
    return choose(workload, grouped_forms(workload))


def choose_local(choose: Chooser, workload: Workload) -> tuple[LocalForm, GroupedForm]:
    """Choose how blocks attend to their neighborhood, and how query heads share a key head in a loop over blocks."""
    return choose(workload, local_forms(workload)), choose_grouped(choose, one_block(workload))


def one_block(workload: Workload) -> Workload:
    """Return the workload of the attention of one block to its neighborhood."""
    tokens = -(-workload.queries // workload.blocks)
    neighborhood = min(workload.queries, (2 * workload.radius + 1) * tokens)
    return replace(workload, queries=tokens, keys=neighborhood, blocks=0, radius=0)
