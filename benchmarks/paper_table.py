"""Compare the cost of the paper's sparse attention (B = 16, r = 1) with that of other choices at 1024x1024.

The network is ladder D (``experiments/paper/ladder_d.yaml``), which has the same architecture as the supernet's
half-width sub-network: 0.4 B parameters, and 4096 tokens at full resolution. Every combination of B and r is used in
its sparse levels, with KV compression, and full attention for comparison. FLOPs are counted on the meta device, without
training. Latency is predicted (``pocketdit.latency``), not measured.

    python -m benchmarks.paper_table [--out docs/images/sweep_blocks.png]
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from pocketdit.backbones.spec import FULL_WIDTH, AdaptiveSparseAttention, DiTSpec, FullAttention

if TYPE_CHECKING:
    from pocketdit.config.experiment import Experiment

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "paper" / "ladder_d.yaml"
SIZE = (1024, 1024)  # pixels
DEVICE, QUERY_CHUNK = "iphone16promax", 1024  # the exported network processes 1024 queries at a time
BLOCKS, RADII = (8, 16, 32, 64), (0, 1, 2)
PAPER = (16, 1)

Attention = AdaptiveSparseAttention | FullAttention


@dataclass(frozen=True)
class Row:
    """The cost of the network with one kind of attention in its sparse levels.

    Attributes:
        kind: The kind of attention.
        neighbors: Average number of full-resolution keys to which a query in a sparse level attends.
        compressed: Number of 2x2-compressed keys to which each such query attends.
        attention: FLOPs of all self-attention in one forward pass: logits, weighted sums of values, compression and
            gate, excluding the projections, which are the same in every row. A multiply-add is two FLOPs.
        forward: FLOPs of the entire forward pass.
        latency: Predicted latency of the exported network's forward pass on ``DEVICE``, in milliseconds.
    """

    kind: Attention
    neighbors: float
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

    @property
    def is_paper_choice(self) -> bool:
        """Whether the paper uses this kind of attention."""
        return isinstance(self.kind, AdaptiveSparseAttention) and (self.kind.blocks, self.kind.radius) == PAPER


def load_experiment() -> "Experiment":
    from pocketdit.config.experiment import Experiment
    from pocketdit.config.load import load

    return load(EXPERIMENT, [], Experiment).config


def attention_kinds(kv_heads: int) -> list[Attention]:
    """Return full attention, followed by sparse attention with every combination of B and r."""
    sparse = [AdaptiveSparseAttention("assa", kv_heads, blocks, radius) for blocks in BLOCKS for radius in RADII]
    return [FullAttention("full", kv_heads), *sparse]


def with_attention(spec: DiTSpec, kind: Attention) -> DiTSpec:
    """Replace the attention of the sparse levels of ``spec``. The middle level keeps its full attention."""
    levels = [
        replace(level, attention=kind) if isinstance(level.attention, AdaptiveSparseAttention) else level
        for level in spec.levels
    ]
    return replace(spec, levels=tuple(levels))


def keys_per_query(kind: Attention, tokens: int) -> tuple[float, int]:
    """Return the average number of full-resolution keys, and of 2x2-compressed keys, to which a query attends."""
    import torch

    from pocketdit.backbones.neighborhood import neighborhood_mask

    match kind:
        case FullAttention():
            return float(tokens), 0
        case AdaptiveSparseAttention(blocks=blocks, radius=radius):
            mask = neighborhood_mask(tokens, blocks, radius, torch.device("cpu"))
            return mask.sum().item() / tokens, tokens // 4


def count_cost(spec: DiTSpec, kind: Attention, sides: tuple[int, int], text_tokens: Sequence[int]) -> Row:
    """Determine the cost of one forward pass for one image, with FLOPs counted on the meta device.

    Args:
        spec: Description of the network.
        kind: Attention to use in the network's sparse levels.
        sides: Height and width of the latents.
        text_tokens: Number of tokens of each text encoder.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pocketdit.backbones.dit import ElasticDiT
    from pocketdit.training.cost import network_inputs

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
    latency = predict_latency(spec, sides, text_tokens)
    return Row(kind, *keys_per_query(kind, tokens), attention, counter.get_total_flops(), latency)


def predict_latency(spec: DiTSpec, sides: tuple[int, int], text_tokens: Sequence[int]) -> float:
    """Predict the latency of one sampling step on ``DEVICE`` with weights in fp16, in milliseconds."""
    from pocketdit.latency.devices import find_device
    from pocketdit.latency.predict import predict
    from pocketdit.latency.traced_census import trace_census

    census = trace_census(spec, FULL_WIDTH, sides, 1 + sum(text_tokens), query_chunk=QUERY_CHUNK)
    return predict(census, find_device(DEVICE)).milliseconds


def table(rows: Sequence[Row]) -> str:
    """Tabulate the rows, and show self-attention as a share of that in the first row, which is full attention."""
    full = rows[0]
    cells = [
        [
            row.name,
            f"{row.neighbors:.0f} + {row.compressed}",
            f"{row.attention / 1e9:.0f}",
            f"{row.attention / full.attention:.1%}",
            f"{row.forward / 1e9:.0f}",
            f"{row.latency:.0f}",
            "the paper's choice" if row.is_paper_choice else "",
        ]
        for row in rows
    ]
    headers = ["", "keys per query,\nuncompressed + compressed", "self-attention\n(GFLOP)", "share of\nfull",
               "forward pass\n(GFLOP)", f"{DEVICE}\n(ms)", ""]  # fmt: skip
    alignment = ("left", *["right"] * 5, "left")
    return tabulate(cells, headers, tablefmt="simple", disable_numparse=True, colalign=alignment)


def plot(rows: Sequence[Row], out: Path) -> None:
    """Plot FLOPs and predicted latency against B with one line per r, and full attention as a horizontal line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from pocketdit.files import write_atomically

    full, sparse = rows[0], rows[1:]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6))
    values: dict[str, Callable[[Row], float]] = {
        "self-attention per forward pass (GFLOP)": lambda row: row.attention / 1e9,
        "predicted latency per forward pass (ms)": lambda row: row.latency,
    }
    [paper] = [row for row in sparse if row.is_paper_choice]
    for axis, (title, value) in zip(axes, values.items(), strict=True):
        for radius in RADII:
            line = [
                row for row in sparse if isinstance(row.kind, AdaptiveSparseAttention) and row.kind.radius == radius
            ]
            axis.plot(range(len(BLOCKS)), [value(row) for row in line], marker="o", label=f"r = {radius}")
        axis.scatter([BLOCKS.index(PAPER[0])], [value(paper)], marker="*", s=260, color="black", zorder=5,
                     label="the paper's choice")  # fmt: skip
        axis.axhline(value(full), color="0.4", linestyle="--", label="full attention")
        axis.set(
            xticks=range(len(BLOCKS)),
            xticklabels=BLOCKS,
            xlabel="number of blocks B (for 4096 tokens)",
            ylabel=title,
            ylim=(0, None),
        )
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=9)
    figure.suptitle(
        f"Sparse attention with KV compression in the paper's small model at 1024x1024 ({DEVICE})", fontsize=12
    )
    figure.tight_layout()
    write_atomically(out, lambda temporary: figure.savefig(temporary, dpi=90, format="png"))
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    from tqdm import tqdm

    from pocketdit.config.declared import latent_sides, text_lengths

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/images/sweep_blocks.png"),
        help="PNG file of the plot (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    experiment = load_experiment()
    spec, kv_heads = experiment.dit, experiment.dit.levels[0].attention.kv_heads
    sides, text_tokens = latent_sides(experiment.autoencoder, SIZE), text_lengths(experiment.text_encoders)
    kinds = attention_kinds(kv_heads)
    rows = [count_cost(spec, kind, sides, text_tokens) for kind in tqdm(kinds, unit="kind", leave=False)]
    print(table(rows))
    plot(rows, args.out)
    print(f"plot: {args.out}")


if __name__ == "__main__":
    main()
