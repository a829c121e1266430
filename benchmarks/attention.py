"""ASSA's attention against full attention on the same queries, keys and values.

ASSA is what the backbone runs: KV compression with its norms, compressed attention, blockwise neighborhood
attention, the gate and the interpolation; the projections to q, k, v and out are in neither side. Full attention
is measured in several forms, and the fastest is what ASSA is compared with. Below, the forms of blockwise
neighborhood attention alone: where the loop over blocks overtakes one masked attention is LOOP_FROM_BLOCK_TOKENS in
pocketdit/backbones/neighborhood.py.

    python benchmarks/attention.py [--json PATH]
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

from benchmarks.timing import alternate, announce, device, milliseconds, options, pairwise, report, table
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.neighborhood import (
    LOOP_FROM_BLOCK_TOKENS,
    block_edges,
    flex,
    grouped_attention,
    looped,
    masked,
)
from pocketdit.backbones.position import rotation
from pocketdit.backbones.spec import AdaptiveSparseAttention

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 32
BLOCKS, RADIUS = 16, 1
REQUIRED_AT, REQUIRED = 4096, 2.2

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def shared_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def repeated_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1))


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return shared_keys(q, k, v)


def full_forms(on: torch.device) -> dict[str, Attention]:
    forms: dict[str, Attention] = {
        "full, enable_gqa": shared_keys,
        "full, repeated keys": repeated_keys,
        "full, folded queries": grouped_attention,
    }
    if on.type == "cuda":
        forms["full, FlashAttention"] = flash_attention
    return forms


def neighborhood_forms(on: torch.device) -> dict[str, Callable[..., Tensor]]:
    """FlexAttention only where it is compiled to a kernel of its own."""
    forms: dict[str, Callable[..., Tensor]] = {"looped": looped, "masked": masked}
    if on.type == "cuda":
        forms["flex"] = torch.compile(flex, dynamic=False)
    return forms


def grid_of(tokens: int) -> tuple[int, int]:
    """Sides of a square, or of two squares side by side, for a power of two."""
    height = 2 ** (int(math.log2(tokens)) // 2)
    return height, tokens // height


def build(tokens: int, on: torch.device, batch: int = 1) -> tuple[AdaptiveSparseSelfAttention, Tensor, tuple]:
    """ASSA of random weights, its input (B, N, D), and (q, k, v) as they lie in memory in the backbone."""
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    spec = AdaptiveSparseAttention("assa", KV_HEADS, BLOCKS, RADIUS)
    module = AdaptiveSparseSelfAttention(HEADS * HEAD_DIM, HEAD_DIM, spec).to(on, dtype)
    x = torch.randn(batch, tokens, HEADS * HEAD_DIM, device=on, dtype=dtype)
    return module, x, module.project(x, rotation(*grid_of(tokens), HEAD_DIM, 10_000.0, on))


def assa(module: AdaptiveSparseSelfAttention, x: Tensor, qkv: tuple) -> Callable[[], Tensor]:
    """The module's own attention, given q, k and v."""
    module.project = lambda _x, _rotation: qkv  # type: ignore[method-assign, assignment]
    return lambda: module.attend(x, grid_of(x.shape[1]), qkv[:2])


def score_share(tokens: int) -> float:
    """Share of the full score matrix that ASSA computes: a quarter for the compressed keys, and the blocks."""
    edges = block_edges(tokens, BLOCKS)
    last = len(edges) - 1
    seen = [edges[min(i + RADIUS + 1, last)] - edges[max(i - RADIUS, 0)] for i in range(last)]
    return 0.25 + sum((edges[i + 1] - edges[i]) * seen[i] for i in range(last)) / tokens**2


def counted_limit(tokens: int) -> float:
    """FLOPs of full attention over those of ASSA, compression and gate included, both counted."""
    module, x, qkv = build(tokens, torch.device("meta"))
    counts = []
    for call in (lambda: grouped_attention(*qkv), assa(module, x, qkv)):
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def against_full(tokens: int, rounds: int) -> dict[str, Any]:
    """ASSA and every form of full attention in turns."""
    on = device()
    module, x, qkv = build(tokens, on)
    calls: dict[str, Callable[[], Tensor]] = {name: partial(form, *qkv) for name, form in full_forms(on).items()}
    calls["ASSA"] = assa(module, x, qkv)
    seconds = alternate(calls, rounds, at_least=0.02)
    fastest = min(full_forms(on), key=lambda name: median(seconds[name]))
    return {
        "tokens": tokens,
        "seconds": seconds,
        "fastest": fastest,
        "ratio": pairwise(seconds[fastest], seconds["ASSA"]),
        "score_share": score_share(tokens),
        "counted_limit": counted_limit(tokens),
    }


def neighborhood(tokens: int, rounds: int, batch: int, blocks: int) -> dict[str, Any]:
    """The forms of blockwise neighborhood attention in turns. ``ratio``: masked over looped."""
    on = device()
    _, _, qkv = build(tokens, on, batch)
    forms = neighborhood_forms(on)
    seconds = alternate(
        {name: partial(form, *qkv, blocks, RADIUS) for name, form in forms.items()}, rounds, at_least=0.02
    )
    return {"tokens": tokens, "seconds": seconds, "ratio": pairwise(seconds["masked"], seconds["looped"])}


def loop_from(rows: Sequence[dict[str, Any]]) -> int | None:
    """The least token count from which on the loop is the faster one at all that were measured."""
    slower = [row["tokens"] for row in rows if row["ratio"].median < 1]
    return min((row["tokens"] for row in rows if not slower or row["tokens"] > max(slower)), default=None)


def print_rows(rows: Sequence[dict[str, Any]], ratio: str) -> None:
    names = list(rows[0]["seconds"])
    body = [[row["tokens"], *(milliseconds(row["seconds"][name]) for name in names), row["ratio"]] for row in rows]
    print(table(["tokens", *names, ratio], body), end="\n\n", flush=True)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--batch", type=int, default=1, help="batch of the neighborhood's table (default 1)")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"blocks in that table (default {BLOCKS})")
    chosen = parser.parse_args(arguments)
    announce()
    sizes = {64: 1, 256: 1} if chosen.quick else {REQUIRED_AT: 21, 4 * REQUIRED_AT: 3}
    print(f"{HEADS} query heads, {KV_HEADS} key/value heads of {HEAD_DIM} channels, B = {BLOCKS}, r = {RADIUS}\n")
    rows = [against_full(tokens, rounds) for tokens, rounds in sizes.items()]
    print_rows(rows, "fastest full / ASSA")
    for row in rows:
        print(
            f"arithmetic at {row['tokens']} tokens: {row['score_share']:.1%} of the score matrix, so at most "
            f"{1 / row['score_share']:.2f} times faster; {row['counted_limit']:.2f} with compression and gate counted"
        )

    counts = (64, 256) if chosen.quick else (64, 256, 512, 1024, 4096)
    alone = [neighborhood(tokens, 1 if chosen.quick else 7, chosen.batch, chosen.blocks) for tokens in counts]
    print(f"\nblockwise neighborhood attention alone, batch {chosen.batch}, B = {chosen.blocks}")
    print_rows(alone, "masked / looped")
    print(
        f"the loop is the faster one from {loop_from(alone)} tokens on; the network takes it from "
        f"{LOOP_FROM_BLOCK_TOKENS * chosen.blocks} on"
    )

    first = rows[0]
    met = first["ratio"].median >= REQUIRED
    print(
        f"ratio at {first['tokens']} tokens: {first['fastest']} / ASSA = {first['ratio']}, required {REQUIRED}, "
        f"limit {1 / first['score_share']:.2f}: {'met' if met else 'NOT met'}"
    )
    report(
        {
            "benchmark": "attention",
            "rows": rows,
            "neighborhood": alone,
            "loop_from_tokens": loop_from(alone),
            "ratio": first["ratio"],
            "required": REQUIRED,
            "met": met,
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()
