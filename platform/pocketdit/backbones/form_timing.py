"""Times the forms (alternative implementations) of an attention computation on this machine."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

import torch
from torch import Tensor

from pocketdit.backbones.forms import ChoiceT, Form, Workload, grouped_forms, local_forms, one_block
from pocketdit.backbones.grouped import grouped_attention
from pocketdit.backbones.neighborhood import neighborhood_attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Computes attention (B, H, N, E) from q (B, H, N, E), k (B, G, M, E), and v (B, G, M, E)."""

ROUNDS = 5
# A measurement repeats the call often enough to take at least about this many seconds.
AT_LEAST = 2e-3
# Another form replaces the default only if it takes less than this fraction of the default's time, so that timing noise
# rarely affects the choice.
FASTER = 0.95


def fastest_form(workload: Workload, forms: Sequence[ChoiceT]) -> ChoiceT:
    """Return the fastest form on this machine, or the default if it is nearly as fast."""
    if len(forms) == 1:
        return forms[0]
    seconds = time_forms(workload, forms)
    fastest = min(forms, key=lambda form: seconds[form])
    return fastest if seconds[fastest] < FASTER * seconds[forms[0]] else forms[0]


def time_forms(workload: Workload, forms: Sequence[ChoiceT], rounds: int = ROUNDS) -> dict[ChoiceT, float]:
    """Return how many seconds one call of each form takes, including the backward pass if the workload has one.

    Each round measures every form once. The result for a form is the minimum over ``rounds`` rounds, or infinity if
    the form cannot run on this machine.
    """
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(workload.gradient),
        torch.autocast(workload.device.type, enabled=False),
    ):
        inputs = random_inputs(workload)
        calls = {form: partial(call, attention_in(form, workload), inputs, workload.gradient) for form in forms}
        repeats = {form: repeats_for(calls[form], workload.device) for form in forms}
        seconds = {form: math.inf for form in forms}
        for _ in range(rounds):
            for form, count in repeats.items():
                if count:
                    seconds[form] = min(seconds[form], mean_seconds(calls[form], workload.device, count))
    return seconds


def attention_in(form: Form, workload: Workload) -> Attend:
    """Return a function that computes the workload's attention in the given form."""
    match form:
        case "float32" | "bfloat16":
            dtype = torch.float32 if form == "float32" else torch.bfloat16
            inner = replace(workload, dtype=dtype)
            attend = attention_in(local_forms(inner)[0] if inner.blocks else grouped_forms(inner)[0], inner)
            return lambda q, k, v: attend(q.to(dtype), k.to(dtype), v.to(dtype)).to(workload.dtype)
        case "shared" | "folded" | "repeated":
            shape = (workload.batch, 1, 1, workload.keys)
            mask = torch.ones(shape, dtype=torch.bool, device=workload.device) if workload.hidden_keys else None
            return partial(grouped_attention, form=form, mask=mask)
        case "looped" | "masked" | "flex":
            block_form = grouped_forms(one_block(workload))[0]
            blocks, radius = workload.blocks, workload.radius
            return partial(neighborhood_attention, blocks=blocks, radius=radius, form=form, block_form=block_form)
        case _:
            assert_never(form)


def random_inputs(workload: Workload) -> list[Tensor]:
    """Draw q, k, and v in the network's memory layout, (B, N, H, E), without advancing torch's global generator."""
    generator = torch.Generator(workload.device).manual_seed(0)
    shapes = [(workload.queries, workload.heads), *[(workload.keys, workload.groups)] * 2]
    return [
        torch.randn(
            workload.batch, tokens, heads, workload.channels,
            generator=generator, device=workload.device, dtype=workload.dtype,
        ).transpose(1, 2).requires_grad_(workload.gradient)
        for tokens, heads in shapes
    ]  # fmt: skip


def call(attend: Attend, inputs: Sequence[Tensor], gradient: bool) -> None:
    """Compute attention, and its gradient if ``gradient`` is set."""
    output = attend(*inputs)
    if gradient:
        torch.autograd.grad(output, inputs, torch.ones_like(output))


def repeats_for(run: Callable[[], None], device: torch.device) -> int:
    """Warm up ``run``, and return how many times a measurement must call it, or 0 if it fails on this machine."""
    try:
        run()
        return max(1, math.ceil(AT_LEAST / mean_seconds(run, device)))
    except RuntimeError:  # out of memory, or torch.compile finds no compiler
        return 0


def mean_seconds(run: Callable[[], None], device: torch.device, repeats: int = 1) -> float:
    """Return the mean duration in seconds of ``repeats`` calls."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / repeats


def synchronize(device: torch.device) -> None:
    """Wait until all work that is queued on a GPU is finished."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
