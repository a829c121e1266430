"""Time ASSA against full attention on the same queries, keys and values.

    python benchmarks/attention.py [--json PATH]

ASSA is timed as the backbone runs it: KV compression with its norms, attention to the compressed keys, blockwise
neighborhood attention, gate and interpolation. It is compared with the fastest of several implementations of full
attention. Neither side includes the projections to q, k, v and out.

A second table times only the implementations of blockwise neighborhood attention. LOOP_FROM_BLOCK_TOKENS in
pocketdit/backbones/neighborhood.py is the number of tokens above which looping over the blocks is faster than a single
masked attention, according to this table.

Shape letters: B = batch, N = tokens, D = hidden size.
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
QKV = tuple[Tensor, Tensor, Tensor]


def shared_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute full attention with PyTorch's own sharing of each key head among several query heads."""
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def repeated_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute full attention on keys and values that are repeated for every query head."""
    repeat = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1))


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute full attention with PyTorch's FlashAttention kernel."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return shared_keys(q, k, v)


def full_implementations(device: torch.device) -> dict[str, Attention]:
    """Return the implementations of full attention that are available on a device, by name."""
    implementations: dict[str, Attention] = {
        "full, enable_gqa": shared_keys,
        "full, repeated keys": repeated_keys,
        "full, folded queries": grouped_attention,
    }
    if device.type == "cuda":
        implementations["full, FlashAttention"] = flash_attention
    return implementations


def neighborhood_implementations(device: torch.device) -> dict[str, Callable[..., Tensor]]:
    """Return the implementations of blockwise neighborhood attention by name, on a GPU with compiled FlexAttention."""
    implementations: dict[str, Callable[..., Tensor]] = {"looped": looped_attention, "masked": masked_attention}
    if device.type == "cuda":
        implementations["flex"] = torch.compile(flex_neighborhood_attention, dynamic=False)
    return implementations


def grid_sides(tokens: int) -> tuple[int, int]:
    """Return height and width of a grid with a power of two of tokens: a square, or two squares side by side."""
    height = 2 ** (int(math.log2(tokens)) // 2)
    return height, tokens // height


def build_assa(tokens: int, device: torch.device, batch: int = 1) -> tuple[AdaptiveSparseSelfAttention, Tensor, QKV]:
    """Return ASSA with random weights, its input (B, N, D), and q, k and v in the backbone's memory layout."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    spec = AdaptiveSparseAttention("assa", KV_HEADS, BLOCKS, RADIUS)
    module = AdaptiveSparseSelfAttention(HEADS * HEAD_DIM, HEAD_DIM, spec).to(device, dtype)
    x = torch.randn(batch, tokens, HEADS * HEAD_DIM, device=device, dtype=dtype)
    return module, x, module.project(x, axial_rope(*grid_sides(tokens), HEAD_DIM, 10_000.0, device))


def assa_call(module: AdaptiveSparseSelfAttention, x: Tensor, qkv: QKV) -> Callable[[], Tensor]:
    """Return a function that runs the module's attention on the given q, k and v, without the projections."""
    module.project = lambda _x, _rotation: qkv  # type: ignore[method-assign, assignment]
    return lambda: module.attend(x, grid_sides(x.shape[1]), qkv[:2])


def score_fraction(tokens: int) -> float:
    """Return the fraction of the full score matrix that ASSA computes: 1/4 for compressed keys, plus the blocks."""
    edges = block_edges(tokens, BLOCKS)
    last = len(edges) - 1
    visible = [edges[min(i + RADIUS + 1, last)] - edges[max(i - RADIUS, 0)] for i in range(last)]
    return 0.25 + sum((edges[i + 1] - edges[i]) * visible[i] for i in range(last)) / tokens**2


def flop_ratio(tokens: int) -> float:
    """Return the FLOPs of full attention divided by those of ASSA, which include compression and gate."""
    module, x, qkv = build_assa(tokens, torch.device("meta"))
    calls: list[Callable[[], Tensor]] = [partial(grouped_attention, *qkv), assa_call(module, x, qkv)]
    counts: list[int] = []
    for call in calls:
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def compare_with_full_attention(tokens: int, rounds: int) -> dict[str, Any]:
    """Time ASSA and every implementation of full attention alternately."""
    device = default_device()
    module, x, qkv = build_assa(tokens, device)
    full = full_implementations(device)
    calls: dict[str, Callable[[], Tensor]] = {name: partial(attend, *qkv) for name, attend in full.items()}
    calls["ASSA"] = assa_call(module, x, qkv)
    seconds = time_alternately(calls, rounds, at_least=0.02)
    fastest = min(full, key=lambda name: median(seconds[name]))
    return {
        "tokens": tokens,
        "seconds": seconds,
        "fastest": fastest,
        "ratio": paired_ratio(seconds[fastest], seconds["ASSA"]),
        "score_fraction": score_fraction(tokens),
        "flop_ratio": flop_ratio(tokens),
    }


def compare_neighborhood_implementations(tokens: int, rounds: int, batch: int, blocks: int) -> dict[str, Any]:
    """Time the implementations of blockwise neighborhood attention alternately, and compute masked / looped."""
    device = default_device()
    _, _, qkv = build_assa(tokens, device, batch)
    calls = {
        name: partial(attend, *qkv, blocks, RADIUS) for name, attend in neighborhood_implementations(device).items()
    }
    seconds = time_alternately(calls, rounds, at_least=0.02)
    return {"tokens": tokens, "seconds": seconds, "ratio": paired_ratio(seconds["masked"], seconds["looped"])}


def loop_threshold(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the smallest measured number of tokens at and above which the loop is always faster, or None."""
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
    parser.add_argument("--batch", type=int, default=1, help="batch size in the second table (default: %(default)s)")
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help="number of blocks in the second table (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    print_machine()
    sizes = {64: 1, 256: 1} if args.quick else {REQUIRED_TOKENS: 21, 4 * REQUIRED_TOKENS: 3}
    print(f"{HEADS} query heads, {KV_HEADS} key/value heads with {HEAD_DIM} channels, B = {BLOCKS}, r = {RADIUS}\n")
    rows = [compare_with_full_attention(tokens, rounds) for tokens, rounds in sizes.items()]
    print_rows(rows, "fastest full / ASSA")
    for row in rows:
        print(
            f"{row['tokens']} tokens: ASSA computes {row['score_fraction']:.1%} of the score matrix, which limits the "
            f"speedup to {1 / row['score_fraction']:.2f}x, or to {row['flop_ratio']:.2f}x if the FLOPs of compression "
            f"and gate are included"
        )

    counts = (64, 256) if args.quick else (64, 256, 512, 1024, 4096)
    neighborhood = [
        compare_neighborhood_implementations(tokens, 1 if args.quick else 7, args.batch, args.blocks)
        for tokens in counts
    ]
    print(f"\nblockwise neighborhood attention alone, batch size {args.batch}, B = {args.blocks}")
    print_rows(neighborhood, "masked / looped")
    threshold = loop_threshold(neighborhood)
    measured = "never faster" if threshold is None else f"faster from {threshold} tokens"
    print(
        f"on this machine, the loop is {measured}; "
        f"the network uses it from {LOOP_FROM_BLOCK_TOKENS * args.blocks} tokens"
    )

    first = rows[0]
    met = first["ratio"].median >= REQUIRED
    print(
        f"ratio at {first['tokens']} tokens: {first['fastest']} / ASSA = {first['ratio']}, required {REQUIRED}, "
        f"limit {1 / first['score_fraction']:.2f}: {verdict(met)}"
    )
    write_result(
        {
            "benchmark": "attention",
            "rows": rows,
            "neighborhood": neighborhood,
            "loop_from_tokens": threshold,
            "ratio": first["ratio"],
            "required": REQUIRED,
            "met": met,
        },
        args.json,
    )


if __name__ == "__main__":
    main()
