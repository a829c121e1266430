"""Compare the speed of ASSA with that of full attention, and the speeds of alternative implementations of both.

    python benchmarks/attention.py [--json PATH]

ASSA is timed as the backbone runs it without gradients: KV compression with its norms, attention to the compressed
keys, blockwise neighborhood attention, gate and interpolation. It is compared with the fastest of several
implementations of full attention on the same queries, keys and values. Neither time includes the projections to q, k,
v and out. Both use the forms of attention that are fastest on this machine.

A second table compares the forms, that is, the alternative implementations of an attention computation from which a
run can choose (pocketdit/backbones/forms.py), at the sizes of the embedded experiment and of the paper's ladder D.

Shape letters: B = batch, N = tokens, D = hidden size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import (
    argument_parser,
    default_device,
    format_median,
    paired_ratio,
    print_machine,
    table,
    time_alternately,
    verdict,
    write_result,
)
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.form_timing import attention_in, fastest_form, time_forms
from pocketdit.backbones.forms import (
    Form,
    GroupedForm,
    Workload,
    dtype_forms,
    first_form,
    grouped_forms,
    local_forms,
    one_block,
)
from pocketdit.backbones.grouped import grouped_attention
from pocketdit.backbones.neighborhood import block_edges
from pocketdit.backbones.position import axial_rope
from pocketdit.backbones.spec import AdaptiveSparseAttention

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 32
BLOCKS, RADIUS = 16, 1
REQUIRED_TOKENS, REQUIRED = 4096, 2.2

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
QKV = tuple[Tensor, Tensor, Tensor]


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute full attention with PyTorch's FlashAttention kernel."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return grouped_attention(q, k, v, "shared")


def full_implementations(device: torch.device) -> dict[str, Attention]:
    """Return a mapping from name to each implementation of full attention that is available on a device."""
    implementations: dict[str, Attention] = {
        f"full, {form}": partial(grouped_attention, form=form) for form in get_args(GroupedForm)
    }
    if device.type == "cuda":
        implementations["full, FlashAttention"] = flash_attention
    return implementations


def grid_sides(tokens: int) -> tuple[int, int]:
    """Return the height and width of a grid with a power-of-two number of tokens: a square or two adjacent squares."""
    height = 2 ** (int(math.log2(tokens)) // 2)
    return height, tokens // height


def build_assa(
    tokens: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[AdaptiveSparseSelfAttention, Tensor, QKV]:
    """Return ASSA with random weights, its input (B, N, D), and q, k and v in the backbone's memory layout."""
    spec = AdaptiveSparseAttention("assa", KV_HEADS, BLOCKS, RADIUS)
    module = AdaptiveSparseSelfAttention(HEADS * HEAD_DIM, HEAD_DIM, spec).to(device, dtype)
    x = torch.randn(1, tokens, HEADS * HEAD_DIM, device=device, dtype=dtype)
    return module, x, module.project(x, axial_rope(*grid_sides(tokens), HEAD_DIM, 10_000.0, device))


def assa_call(module: AdaptiveSparseSelfAttention, x: Tensor, qkv: QKV) -> Callable[[], Tensor]:
    """Return a function that runs the module's attention on the given q, k and v, without the projections."""
    module.project = lambda _x, _rotation: qkv  # type: ignore[method-assign, assignment]
    forms = module.choose_forms(x, first_form if x.is_meta else fastest_form)
    return lambda: module.attend(x, grid_sides(x.shape[1]), qkv[:2], forms)


def score_fraction(tokens: int) -> float:
    """Return the fraction of the score matrix that ASSA computes: 1/4 for compressed keys plus the blocks' share."""
    edges = block_edges(tokens, BLOCKS)
    last = len(edges) - 1
    visible = [edges[min(i + RADIUS + 1, last)] - edges[max(i - RADIUS, 0)] for i in range(last)]
    return 0.25 + sum((edges[i + 1] - edges[i]) * visible[i] for i in range(last)) / tokens**2


def flop_ratio(tokens: int) -> float:
    """Return the FLOPs of full attention divided by those of ASSA, including its compression and gate."""
    module, x, qkv = build_assa(tokens, torch.device("meta"))
    calls: list[Callable[[], Tensor]] = [partial(grouped_attention, *qkv, "shared"), assa_call(module, x, qkv)]
    counts: list[int] = []
    for call in calls:
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def compare_with_full_attention(tokens: int, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Time ASSA and every implementation of full attention alternately."""
    device = default_device()
    module, x, qkv = build_assa(tokens, device, dtype)
    full = full_implementations(device)
    if device.type == "cpu" and dtype is torch.bfloat16:
        full["full in float32"] = attention_in("float32", module.workload(x))
    calls: dict[str, Callable[[], Tensor]] = {name: partial(attend, *qkv) for name, attend in full.items()}
    calls["ASSA"] = assa_call(module, x, qkv)
    seconds = time_alternately(calls, rounds, at_least=0.02)
    fastest = min(full, key=lambda name: median(seconds[name]))
    return {
        "tokens": tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": seconds,
        "fastest": fastest,
        "ratio": paired_ratio(seconds[fastest], seconds["ASSA"]),
        "score_fraction": score_fraction(tokens),
        "flop_ratio": flop_ratio(tokens),
    }


def workloads(device: torch.device, quick: bool) -> dict[str, Workload]:
    """Return the named attention computations of the embedded experiment at full width and of ladder D."""
    embedded = Workload(device, torch.float32, False, 16, 16, 2, 64, 64, 16)
    paper = Workload(device, torch.float32, False, 1, HEADS, KV_HEADS, 4096, 4096, HEAD_DIM)
    computations: dict[str, Workload] = {}
    for name, size, blocks in (("embedded", embedded, 4), ("ladder D", paper, BLOCKS)):
        local = replace(size, blocks=blocks, radius=RADIUS)
        computations |= {
            f"{name}, full": replace(size, queries=size.queries // 4, keys=size.keys // 4),
            f"{name}, global branch": replace(size, keys=size.keys // 4),
            f"{name}, one block": one_block(local),
            f"{name}, local branch": local,
            f"{name}, cross": replace(size, keys=32 if name == "embedded" else 128, hidden_keys=True),
        }
    return {name: item for name, item in computations.items() if not quick or name.startswith("embedded")}


def compare_forms(name: str, workload: Workload, rounds: int) -> list[dict[str, Any]]:
    """Time all forms of a computation with and without gradients and, on a CPU, both dtypes for bf16 inputs."""
    rows = []
    for gradient in (False, True):
        item = replace(workload, gradient=gradient)
        choices: list[tuple[Workload, Sequence[Form]]] = [
            (item, local_forms(item) if item.blocks else grouped_forms(item))
        ]
        if item.device.type == "cpu":
            bf16 = replace(item, dtype=torch.bfloat16)
            choices.append((bf16, dtype_forms(bf16)))
        rows += [
            {
                "name": name,
                "gradient": gradient,
                "dtype": str(choice.dtype).removeprefix("torch."),
                "default": forms[0],
                "seconds": time_forms(choice, forms, rounds),
            }
            for choice, forms in choices
            if len(forms) > 1
        ]
    return rows


def print_forms(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table that shows, for each computation, the time of each form relative to that of the default form."""
    cells = [
        [
            row["name"],
            "yes" if row["gradient"] else "no",
            row["dtype"],
            f"{row['default']} {format_median([row['seconds'][row['default']]])}",
            ", ".join(
                f"{form} {seconds / row['seconds'][row['default']]:.2f}"
                for form, seconds in row["seconds"].items()
                if form != row["default"]
            ),
        ]
        for row in rows
    ]
    print(table(["computation", "gradient", "dtype", "default", "time / default"], cells), end="\n\n", flush=True)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table with one row for each combination of token count and dtype."""
    names = list(rows[0]["seconds"])
    body = [
        [row["tokens"], row["dtype"], *(format_median(row["seconds"][name]) for name in names), row["ratio"]]
        for row in rows
    ]
    print(table(["tokens", "dtype", *names, "fastest full / ASSA"], body), end="\n\n", flush=True)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    args = parser.parse_args(arguments)
    print_machine()
    device = default_device()
    dtypes = [torch.bfloat16] if device.type == "cuda" else [torch.float32, torch.bfloat16]
    sizes = {64: 1, 256: 1} if args.quick else {REQUIRED_TOKENS: 21, 4 * REQUIRED_TOKENS: 3}
    print(f"{HEADS} query heads, {KV_HEADS} key/value heads with {HEAD_DIM} channels, B = {BLOCKS}, r = {RADIUS}\n")
    rows = [compare_with_full_attention(tokens, dtype, rounds) for dtype in dtypes for tokens, rounds in sizes.items()]
    print_rows(rows)
    for row in rows[: len(sizes)]:
        print(
            f"{row['tokens']} tokens: ASSA computes {row['score_fraction']:.1%} of the score matrix, which limits the "
            f"speedup to {1 / row['score_fraction']:.2f}x, or to {row['flop_ratio']:.2f}x if the FLOPs of the "
            f"compression and the gate are included"
        )
    print()
    forms = [
        row
        for name, workload in workloads(device, args.quick).items()
        for row in compare_forms(name, workload, 1 if args.quick else 7)
    ]
    print_forms(forms)

    first = rows[0]
    met = first["ratio"].median >= REQUIRED
    print(
        f"ratio at {first['tokens']} tokens: {first['fastest']} / ASSA = {first['ratio']} (at least {REQUIRED}; "
        f"the FLOPs limit it to {first['flop_ratio']:.2f}): {verdict(met)}"
    )
    write_result(
        {
            "benchmark": "attention",
            "rows": rows,
            "forms": forms,
            "ratio": first["ratio"],
            "required": REQUIRED,
            "met": met,
        },
        args.json,
    )


if __name__ == "__main__":
    main()
