"""Tests for the forms of grouped-query attention."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from pocketdit.backbones.forms import GroupedForm
from pocketdit.backbones.grouped import grouped_attention

FORMS = get_args(GroupedForm)


def qkv(groups: int, queries: int = 20, keys: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, tokens, heads, 8, generator=generator).transpose(1, 2)
        for tokens, heads in ((queries, 6), (keys, groups), (keys, groups))
    )
    return q, k, v


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention head by head, from its definition."""
    repeat = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // repeat].mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, 0], -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, head // repeat])
    return torch.stack(heads, 1)


def hidden_keys() -> Tensor:
    """Return a mask (B, 1, 1, M) that hides a different number of keys in each sample."""
    return torch.arange(12)[None, None, None] < torch.tensor([5, 9])[:, None, None, None]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_every_form_equals_the_definition(form: GroupedForm, groups: int, masked: bool) -> None:
    mask = hidden_keys() if masked else None
    q, k, v = (part.requires_grad_() for part in qkv(groups))
    actual, expected = grouped_attention(q, k, v, form, mask), reference(q, k, v, mask)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(output.square().sum(), (q, k, v)) for output in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["shared", "repeated"])
def test_a_mask_may_differ_between_queries(form: GroupedForm) -> None:
    q, k, v = qkv(2, queries=12)
    mask = torch.ones(12, 12, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    torch.testing.assert_close(grouped_attention(q, k, v, form, mask), reference(q, k, v, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_attention_has_the_dtype_of_its_inputs(form: GroupedForm) -> None:
    q, k, v = (part.bfloat16() for part in qkv(2))
    output = grouped_attention(q, k, v, form)
    assert output.dtype is torch.bfloat16
    torch.testing.assert_close(output.float(), reference(q.float(), k.float(), v.float()), atol=0.02, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_does_not_reduce_the_precision_on_a_cpu(form: GroupedForm) -> None:
    q, k, v = qkv(2)
    with torch.autocast("cpu", torch.bfloat16):
        output = grouped_attention(q, k, v, form)
    assert torch.equal(output, grouped_attention(q, k, v, form))
