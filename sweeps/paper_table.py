"""The paper's (B, r) = (16, 1) among its neighbours: what attention costs at 1024x1024, with no training.

The network is ``experiments/paper/ladder_d.yaml``, which is also the supernet's half width (0.4 B; 4096 tokens at full
resolution). Every figure is counted from it on the meta device: its sparse levels get each (B, r), with KV compression,
or full attention. The latency is a prediction (``pocketdit.latency``), no measurement.

    python -m sweeps.paper_table [--out docs/sweep_blocks.png]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketdit.backbones.spec import FULL, AdaptiveSparseAttention, DiTSpec, FullAttention

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "paper" / "ladder_d.yaml"
SIDES = (128, 128)  # latent of 1024x1024 pixels
TEXT_TOKENS = (77,)  # CLIP-L
DEVICE, QUERY_CHUNK = "iphone16promax", 1024  # queries at a time in the exported form
BLOCKS, RADII = (8, 16, 32, 64), (0, 1, 2)
PAPER = (16, 1)

Attention = AdaptiveSparseAttention | FullAttention


@dataclass(frozen=True)
class Row:
    """One kind of attention in the sparse levels.

    ``near``, ``compressed``: keys that a query of such a level sees on average, at full resolution and compressed 2x2.
    ``attention``: FLOPs of all self-attention in one forward pass, a multiply-add counted as two: logits, sums of
    values, compression and gate; the projections, equal in every row, left out. ``forward``: FLOPs of the whole pass.
    ``latency``: predicted milliseconds of the pass on ``DEVICE``, in the form that is exported.
    """

    kind: Attention
    near: float
    compressed: int
    attention: float
    forward: float
    latency: float

    @property
    def name(self) -> str:
        match self.kind:
            case AdaptiveSparseAttention(blocks=blocks, radius=radius):
                return f"B = {blocks}, r = {radius}"
            case FullAttention():
                return "full attention"


def small_model() -> DiTSpec:
    from pocketdit.config.experiment import Experiment
    from pocketdit.config.load import load

    return load(EXPERIMENT, [], Experiment).config.backbone


def kinds(kv_heads: int) -> list[Attention]:
    """Full attention, then every (B, r)."""
    sparse = [AdaptiveSparseAttention("assa", kv_heads, blocks, radius) for blocks in BLOCKS for radius in RADII]
    return [FullAttention("full", kv_heads), *sparse]


def with_attention(spec: DiTSpec, kind: Attention) -> DiTSpec:
    """``kind`` in the levels that are sparse in ``spec``; the middle, a quarter of the tokens, keeps its own."""
    sparse = [isinstance(level.attention, AdaptiveSparseAttention) for level in spec.levels]
    levels = [replace(level, attention=kind) if is_sparse else level
              for level, is_sparse in zip(spec.levels, sparse, strict=True)]  # fmt: skip
    return replace(spec, levels=tuple(levels))


def seen(kind: Attention, tokens: int) -> tuple[float, int]:
    """Keys that a query sees on average: at full resolution, and compressed 2x2."""
    import torch

    from pocketdit.backbones.neighborhood import neighborhood_mask

    match kind:
        case FullAttention():
            return float(tokens), 0
        case AdaptiveSparseAttention(blocks=blocks, radius=radius):
            mask = neighborhood_mask(tokens, blocks, radius, torch.device("cpu"))
            return mask.sum().item() / tokens, tokens // 4


def count(spec: DiTSpec, kind: Attention, sides: tuple[int, int], text_tokens: Sequence[int]) -> Row:
    """One forward pass of one picture on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pocketdit.backbones.dit import ElasticDiT
    from pocketdit.running.cost_estimate import network_inputs

    spec = with_attention(spec, kind)
    with torch.device("meta"):
        network = ElasticDiT(spec)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*network_inputs(spec, 1, sides, "meta", text_tokens))
    by_module = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    attention = sum(
        by_module[name] - sum(by_module[f"{name}.{part}"] for part in ("q", "kv", "out"))
        for name in by_module
        if name.endswith(".attention")
    )
    tokens = sides[0] * sides[1] // spec.patch_size**2
    return Row(kind, *seen(kind, tokens), attention, counter.get_total_flops(), predicted(spec, sides, text_tokens))


def predicted(spec: DiTSpec, sides: tuple[int, int], text_tokens: Sequence[int]) -> float:
    """Milliseconds of one denoising step on ``DEVICE``, weights in fp16."""
    from pocketdit.latency.coefficients import predict
    from pocketdit.latency.devices import find_device
    from pocketdit.latency.traced import traced

    census = traced(spec, FULL, sides, 1 + sum(text_tokens), query_chunk=QUERY_CHUNK)
    return predict(census, find_device(DEVICE)).milliseconds


def table(rows: Sequence[Row]) -> str:
    """The first row is full attention, of which the others are a share."""
    full = rows[0]
    lines = [f"{'':17} {'keys a query sees':>20} {'self-attention':>17} {'of full':>8} {'whole pass':>13} {DEVICE:>16}"]
    for row in rows:
        mark = "   the paper's" if is_papers(row) else ""
        lines.append(
            f"{row.name:17} {row.near:9.0f} + {row.compressed:4} far {row.attention / 1e9:10.0f} GFLOP "
            f"{row.attention / full.attention:8.1%} {row.forward / 1e9:7.0f} GFLOP {row.latency:13.0f} ms{mark}"
        )
    return "\n".join(lines)


def is_papers(row: Row) -> bool:
    return isinstance(row.kind, AdaptiveSparseAttention) and (row.kind.blocks, row.kind.radius) == PAPER


def plot(rows: Sequence[Row], out: Path) -> None:
    """Arithmetic and predicted latency over B, a line for each r; full attention across, the paper's choice a star."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from pocketdit.files import write_atomically

    full, sparse = rows[0], rows[1:]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6))
    titles = ("self-attention of one pass (GFLOP)", "predicted latency of one pass (ms)")
    for axis, title, value in zip(axes, titles, (lambda r: r.attention / 1e9, lambda r: r.latency), strict=True):
        for radius in RADII:
            line = [row for row in sparse if row.kind.radius == radius]  # type: ignore[union-attr]
            axis.plot(range(len(BLOCKS)), [value(row) for row in line], marker="o", label=f"r = {radius}")
        [paper] = [row for row in sparse if is_papers(row)]
        axis.scatter([BLOCKS.index(PAPER[0])], [value(paper)], marker="*", s=260, color="black", zorder=5,
                     label="the paper's (16, 1)")  # fmt: skip
        axis.axhline(value(full), color="0.4", linestyle="--", label="full attention")
        axis.set(
            xticks=range(len(BLOCKS)), xticklabels=BLOCKS, xlabel="blocks B (4096 tokens)", ylabel=title, ylim=(0, None)
        )
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=9)
    figure.suptitle(
        f"Attention in the paper's small model, 1024x1024 on {DEVICE}: blocks B, radius r, KV compression on",
        fontsize=12,
    )
    figure.tight_layout()
    write_atomically(out, lambda temporary: figure.savefig(temporary, dpi=90, format="png"))
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/sweep_blocks.png"))
    chosen = parser.parse_args(arguments)
    spec = small_model()
    kv_heads = spec.levels[0].attention.kv_heads
    rows = [count(spec, kind, SIDES, TEXT_TOKENS) for kind in tqdm(kinds(kv_heads), unit="kind", leave=False)]
    print(table(rows))
    plot(rows, chosen.out)
    print(f"picture: {chosen.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
