"""Time ASSA against full attention on the same queries, keys and values.

    python benchmarks/attention.py [--json PATH]

ASSA is timed as the backbone runs it: KV compression with its norms, attention to the compressed keys, blockwise
neighborhood attention, gate and interpolation. The projections to q, k, v and out are not included on either side. Full
attention is timed in several forms, and ASSA is compared with the fastest of them.

A second table times the forms of blockwise neighborhood attention alone. The number of tokens from which the loop over
blocks is faster than one masked attention determines LOOP_FROM_BLOCK_TOKENS in pocketdit/backbones/neighborhood.py.

Shape letters: B batch, N tokens, D hidden size.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import (
    argument_parser,
    device,
    format_median,
    paired_ratio,
    print_machine,
    table,
    time_alternately,
    verdict,
    write_result,
)
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.neighborhood import (
    LOOP_FROM_BLOCK_TOKENS,
    block_edges,
    flex_neighborhood_attention,
    grouped_attention,
    looped_attention,
    masked_attention,
)
from pocketdit.backbones.position import axial_rope
from pocketdit.backbones.spec import AdaptiveSparseAttention

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 32
BLOCKS, RADIUS = 16, 1
REQUIRED_TOKENS, REQUIRED = 4096, 2.2

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def shared_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention in which PyTorch shares each key head among several query heads."""
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def repeated_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention on keys and values that are repeated for every query head."""
    repeat = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1))


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention with PyTorch's FlashAttention kernel."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return shared_keys(q, k, v)


def full_forms(on: torch.device) -> dict[str, Attention]:
    """Return the forms of full attention that are available on a device, by name."""
    forms: dict[str, Attention] = {
        "full, enable_gqa": shared_keys,
        "full, repeated keys": repeated_keys,
        "full, folded queries": grouped_attention,
    }
    if on.type == "cuda":
        forms["full, FlashAttention"] = flash_attention
    return forms


def neighborhood_forms(on: torch.device) -> dict[str, Callable[..., Tensor]]:
    """Return the forms of blockwise neighborhood attention, by name. FlexAttention is compiled, and only on a GPU."""
    forms: dict[str, Callable[..., Tensor]] = {"looped": looped_attention, "masked": masked_attention}
    if on.type == "cuda":
        forms["flex"] = torch.compile(flex_neighborhood_attention, dynamic=False)
    return forms


def grid_of(tokens: int) -> tuple[int, int]:
    """Return the sides of a grid for a power of two: a square, or two squares side by side."""
    height = 2 ** (int(math.log2(tokens)) // 2)
    return height, tokens // height


def build(tokens: int, on: torch.device, batch: int = 1) -> tuple[AdaptiveSparseSelfAttention, Tensor, tuple]:
    """Return ASSA with random weights, its input (B, N, D), and q, k and v in the backbone's memory layout."""
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    spec = AdaptiveSparseAttention("assa", KV_HEADS, BLOCKS, RADIUS)
    module = AdaptiveSparseSelfAttention(HEADS * HEAD_DIM, HEAD_DIM, spec).to(on, dtype)
    x = torch.randn(batch, tokens, HEADS * HEAD_DIM, device=on, dtype=dtype)
    return module, x, module.project(x, axial_rope(*grid_of(tokens), HEAD_DIM, 10_000.0, on))


def assa(module: AdaptiveSparseSelfAttention, x: Tensor, qkv: tuple) -> Callable[[], Tensor]:
    """Return a call of the module's attention that skips the projections and uses the given q, k and v."""
    module.project = lambda _x, _rotation: qkv  # type: ignore[method-assign, assignment]
    return lambda: module.attend(x, grid_of(x.shape[1]), qkv[:2])


def score_share(tokens: int) -> float:
    """Return the fraction of the full score matrix that ASSA computes: 1/4 for compressed keys, plus the blocks."""
    edges = block_edges(tokens, BLOCKS)
    last = len(edges) - 1
    visible = [edges[min(i + RADIUS + 1, last)] - edges[max(i - RADIUS, 0)] for i in range(last)]
    return 0.25 + sum((edges[i + 1] - edges[i]) * visible[i] for i in range(last)) / tokens**2


def counted_limit(tokens: int) -> float:
    """Return the counted FLOPs of full attention divided by those of ASSA, including compression and gate."""
    module, x, qkv = build(tokens, torch.device("meta"))
    counts = []
    for call in (lambda: grouped_attention(*qkv), assa(module, x, qkv)):
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def against_full(tokens: int, rounds: int) -> dict[str, Any]:
    """Time ASSA and every form of full attention in alternation."""
    on = device()
    module, x, qkv = build(tokens, on)
    calls: dict[str, Callable[[], Tensor]] = {name: partial(form, *qkv) for name, form in full_forms(on).items()}
    calls["ASSA"] = assa(module, x, qkv)
    seconds = time_alternately(calls, rounds, at_least=0.02)
    fastest = min(full_forms(on), key=lambda name: median(seconds[name]))
    return {
        "tokens": tokens,
        "seconds": seconds,
        "fastest": fastest,
        "ratio": paired_ratio(seconds[fastest], seconds["ASSA"]),
        "score_share": score_share(tokens),
        "counted_limit": counted_limit(tokens),
    }


def neighborhood(tokens: int, rounds: int, batch: int, blocks: int) -> dict[str, Any]:
    """Time the forms of blockwise neighborhood attention in alternation. The ratio is that of masked to looped."""
    on = device()
    _, _, qkv = build(tokens, on, batch)
    forms = neighborhood_forms(on)
    seconds = time_alternately(
        {name: partial(form, *qkv, blocks, RADIUS) for name, form in forms.items()}, rounds, at_least=0.02
    )
    return {"tokens": tokens, "seconds": seconds, "ratio": paired_ratio(seconds["masked"], seconds["looped"])}


def loop_from(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the smallest measured number of tokens from which the loop is always faster, or None."""
    slower = [row["tokens"] for row in rows if row["ratio"].median < 1]
    return min((row["tokens"] for row in rows if not slower or row["tokens"] > max(slower)), default=None)


def print_rows(rows: Sequence[dict[str, Any]], ratio: str) -> None:
    """Print a table with one row per number of tokens."""
    names = list(rows[0]["seconds"])
    body = [[row["tokens"], *(format_median(row["seconds"][name]) for name in names), row["ratio"]] for row in rows]
    print(table(["tokens", *names, ratio], body), end="\n\n", flush=True)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--batch", type=int, default=1, help="batch size in the table of neighborhood attention (default: %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help="number of blocks in that table (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    print_machine()
    sizes = {64: 1, 256: 1} if args.quick else {REQUIRED_TOKENS: 21, 4 * REQUIRED_TOKENS: 3}
    print(f"{HEADS} query heads, {KV_HEADS} key/value heads with {HEAD_DIM} channels, B = {BLOCKS}, r = {RADIUS}\n")
    rows = [against_full(tokens, rounds) for tokens, rounds in sizes.items()]
    print_rows(rows, "fastest full / ASSA")
    for row in rows:
        print(
            f"{row['tokens']} tokens: ASSA computes {row['score_share']:.1%} of the score matrix, so it can be at most "
            f"{1 / row['score_share']:.2f} times faster, or {row['counted_limit']:.2f} times in FLOPs with compression "
            f"and gate"
        )

    counts = (64, 256) if args.quick else (64, 256, 512, 1024, 4096)
    alone = [neighborhood(tokens, 1 if args.quick else 7, args.batch, args.blocks) for tokens in counts]
    print(f"\nblockwise neighborhood attention alone, batch size {args.batch}, B = {args.blocks}")
    print_rows(alone, "masked / looped")
    from_tokens = loop_from(alone)
    measured = "never faster here" if from_tokens is None else f"faster from {from_tokens} tokens on"
    print(f"the loop is {measured}; the network uses it from {LOOP_FROM_BLOCK_TOKENS * args.blocks} tokens on")

    first = rows[0]
    met = first["ratio"].median >= REQUIRED
    print(
        f"ratio at {first['tokens']} tokens: {first['fastest']} / ASSA = {first['ratio']}, required {REQUIRED}, "
        f"limit {1 / first['score_share']:.2f}: {verdict(met)}"
    )
    write_result(
        {
            "benchmark": "attention",
            "rows": rows,
            "neighborhood": alone,
            "loop_from_tokens": from_tokens,
            "ratio": first["ratio"],
            "required": REQUIRED,
            "met": met,
        },
        args.json,
    )


if __name__ == "__main__":
    main()
