"""Search for depths, widths and head sizes that match the paper's ladder (Sec. 3.1, Fig. 2 and 3).

The paper publishes no hidden sizes, head sizes or depths, but three kinds of constraints, by which the candidates are
scored:

- the text: half of B's layers are in the middle stage, and slightly more of the others are in the up stage than in the
  down stage; D moves four layers from the middle stage, two to each side, and has eight key/value heads, an FFN ratio
  of 4 in the outer stages, and long skips;
- the numbers 6, 20, 8 and 10 that Fig. 2 prints beside the stages, some of which should be depths of B or D;
- the parameter counts in Fig. 3: 424, 406, 408 and 429 M, within 5%.

For each combination of constraints, the program prints the candidate whose largest deviation from the published
parameter counts is smallest. Parameters are counted on the meta device, without training. This takes about a minute.

    python -m benchmarks.ladder_search [--chosen]

``--chosen`` prints only the networks of ``experiments/paper/ladder_*.yaml``.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from tabulate import tabulate

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import AdaptiveSparseAttention, AttentionSpec, DiTSpec, FullAttention, Level
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.training.cost import count_parameters

Letter = Literal["A", "B", "C", "D"]
Depths = tuple[int, int, int]
PUBLISHED: Mapping[Letter, float] = {"A": 424.0, "B": 406.0, "C": 408.0, "D": 429.0}
"""Published parameter counts in millions (Fig. 3)."""
PRINTED = (6, 20, 8, 10)
"""The numbers beside the stages in Fig. 2."""
TOLERANCE = 0.05
PAPER = Path(__file__).parent.parent / "experiments" / "paper"
CLIP_WIDTH = 768
HEAD_SIZES = (28, 32, 36, 64, 72)
SUPERNET_HEADS = 32
"""D is the supernet at 0.5x. If its number of heads is a multiple of this, 0.375x has a multiple of eight heads."""
WIDTHS = range(896, 1281, 32)
LAYERS = range(24, 45)
HALF, UP, MOVED, DEPTH, WIDTH = "half in the middle", "slightly more up", "four moved", "A as deep as B", "one width"


@dataclass(frozen=True)
class Size:
    """The settings of a ladder network other than its depths.

    Attributes:
        width: Hidden size.
        head_dim: Channels per head.
        text_width: Width of the text tokens that cross-attention reads.
        text_kv_heads: Number of key/value heads of cross-attention in D. A, B and C have one.
    """

    width: int
    head_dim: int
    text_width: int
    text_kv_heads: int = 8


@dataclass(frozen=True)
class Candidate:
    """A candidate for the paper's ladder.

    Attributes:
        layers: Number of layers of A.
        three_stage: Depths of the down, middle and up stages of B and C.
        enhanced: Depths of the stages of D.
        plain: Other settings of A, B and C.
        final: Other settings of D.
    """

    layers: int
    three_stage: Depths
    enhanced: Depths
    plain: Size
    final: Size

    @property
    def counts(self) -> dict[Letter, float]:
        """The number of parameters of each network in millions."""
        sizes = {"A": self.plain, "B": self.plain, "C": self.plain, "D": self.final}
        depths = {"A": (self.layers, 0, 0), "B": self.three_stage, "C": self.three_stage, "D": self.enhanced}
        return {letter: count_millions(letter, sizes[letter], depths[letter]) for letter in PUBLISHED}

    @property
    def deviations(self) -> dict[Letter, float]:
        """The relative deviation of each network's number of parameters from the published one."""
        return {letter: self.counts[letter] / published - 1 for letter, published in PUBLISHED.items()}

    @property
    def worst(self) -> float:
        """The largest absolute deviation."""
        return max(map(abs, self.deviations.values()))

    @property
    def text(self) -> dict[str, bool]:
        """Which statements of the paper's text hold. Those about GQA, FFN ratios and long skips always hold."""
        down, middle, up = self.three_stage
        return {
            HALF: abs(middle - down - up) <= sum(self.three_stage) % 2,
            UP: 0 < up - down <= 2,
            MOVED: self.enhanced == (down + 2, middle - 4, up + 2),
            DEPTH: self.layers == sum(self.three_stage),
            WIDTH: self.plain.width == self.final.width,
        }

    @property
    def printed(self) -> int:
        """How many of the numbers in Fig. 2 occur among the depths."""
        return len(set(PRINTED) & {*self.three_stage, *self.enhanced})


def spec_of(letter: Letter, size: Size, depths: Depths) -> DiTSpec:
    """Return the specification of a ladder network. A has one level, whose depth is the first of ``depths``."""
    enhanced = letter == "D"
    full: AttentionSpec = FullAttention("full", 8 if enhanced else 1)
    outer = full if letter in "AB" else AdaptiveSparseAttention("assa", full.kv_heads)
    down, middle, up = depths
    ratio = 4 if enhanced else 3
    inner = Level(middle, full, ffn_ratio=3, scale=2, long_skips=enhanced)
    levels = (Level(down, outer, ratio), *(() if letter == "A" else (inner, Level(up, outer, ratio))))
    return DiTSpec(
        latent_channels=16,
        width=size.width,
        head_dim=size.head_dim,
        text_inputs=(CLIP_WIDTH,),
        text_width=size.text_width,
        text_kv_heads=size.text_kv_heads if enhanced else 1,
        levels=levels,
    )


@cache
def parts(letter: Letter, size: Size) -> tuple[int, int, int, int]:
    """Return the numbers of parameters of an outer block, a middle block, a long skip, and everything else."""
    with torch.device("meta"):
        network = ElasticDiT(spec_of(letter, size, (1, 2, 1)))
    blocks = [count_parameters(block) for block in network.blocks()]
    skip = sum(count_parameters(level.get_submodule("skips")) for level in network.stages)
    return blocks[0], blocks[1] if len(blocks) > 1 else 0, skip, count_parameters(network) - sum(blocks) - skip


def count_millions(letter: Letter, size: Size, depths: Depths) -> float:
    """Return a network's number of parameters in millions, which is linear in its depths."""
    outer, middle, skip, rest = parts(letter, size)
    layers = depths[0] if letter == "A" else depths[0] + depths[2]
    return (rest + layers * outer + depths[1] * middle + depths[1] // 2 * skip) / 1e6


@dataclass(frozen=True)
class Family:
    """A combination of constraints.

    Attributes:
        title: Name in the table.
        required: Statements in ``Candidate.text`` that must hold.
        printed: How many of the numbers in Fig. 2 must occur among the depths.
    """

    title: str
    required: tuple[str, ...]
    printed: int = 0


TEXT = (HALF, UP, MOVED, DEPTH, WIDTH)
FAMILIES = (
    Family("all of the text, one width", TEXT),
    Family("all of the text except A's depth", (HALF, UP, MOVED, WIDTH)),
    Family("all of the text except D's width", (HALF, UP, MOVED, DEPTH)),
    Family("all of the text except D's depths", (HALF, UP, DEPTH, WIDTH)),
    Family("Fig. 2's numbers, one width", (UP, MOVED, DEPTH, WIDTH), 4),
    Family("Fig. 2's numbers, any depth of A", (UP, MOVED, WIDTH), 4),
    Family("Fig. 2's numbers, any depth of A and width of D", (UP, MOVED), 4),
)


def sizes() -> list[Size]:
    """Return all combinations of hidden size, head size, text width and key/value heads to try."""
    return [
        Size(width, head_dim, text_width, kv_heads)
        for width, head_dim in itertools.product(WIDTHS, HEAD_SIZES)
        if width % head_dim == 0
        for text_width in sorted({CLIP_WIDTH, width})
        for kv_heads in (1, 8)
    ]


def three_stages(layers: int) -> Iterator[Depths]:
    """Yield depths with half of the layers, or up to seven more, in the middle, and at most two more up than down."""
    for middle, more in itertools.product(range(layers // 2, layers // 2 + 8), range(3)):
        if (layers - middle - more) % 2 == 0:
            down = (layers - middle - more) // 2
            yield down, middle, down + more


def nearest(letter: Letter, size: Size, shapes: Iterable[Depths]) -> Depths:
    """Return the depths whose number of parameters is nearest to the published one."""
    return min(shapes, key=lambda shape: abs(count_millions(letter, size, shape) - PUBLISHED[letter]))


@cache
def nearest_enhanced(size: Size) -> Depths:
    """Return the depths, about equal in all stages, that bring D nearest to its published number of parameters."""
    return nearest("D", size, ((side, side + more, side + more) for side in range(5, 16) for more in (1, 2)))


def candidates(family: Family) -> Iterator[Candidate]:
    """Yield the candidates that satisfy the constraints of a family."""
    plain_sizes = [size for size in sizes() if size.text_kv_heads == 8]
    final_sizes = [size for size in sizes() if size.width // size.head_dim % SUPERNET_HEADS == 0]
    for layers, plain in itertools.product(LAYERS, plain_sizes):
        depth = layers if DEPTH in family.required else nearest("A", plain, ((n, 0, 0) for n in LAYERS))[0]
        for shape in three_stages(layers):
            for final in (size for size in final_sizes if size.head_dim == plain.head_dim):
                down, middle, up = shape
                moved = (down + 2, middle - 4, up + 2)
                enhanced = moved if MOVED in family.required else nearest_enhanced(final)
                candidate = Candidate(depth, shape, enhanced, plain, final)
                if candidate.printed >= family.printed and all(candidate.text[name] for name in family.required):
                    yield candidate


def best(family: Family) -> Candidate:
    """Return the candidate with the smallest largest deviation from the published counts in a family."""
    return min(candidates(family), key=lambda candidate: candidate.worst)


def chosen() -> Candidate:
    """Return the ladder in ``experiments/paper``."""
    a, b, c, d = (
        load(PAPER / f"ladder_{letter.lower()}.yaml", [], Experiment, classes=False).config.dit for letter in PUBLISHED
    )
    if b.levels != tuple(replace(level, attention=b.levels[1].attention) for level in c.levels):
        raise ValueError("ladder C must differ from B only in the attention of its outer stages")
    return Candidate(a.levels[0].depth, depths_of(b), depths_of(d), size_of(a), size_of(d))


def depths_of(spec: DiTSpec) -> Depths:
    """Return the depths of a network with three levels."""
    down, middle, up = (level.depth for level in spec.levels)
    return down, middle, up


def size_of(spec: DiTSpec) -> Size:
    """Return the settings of a network other than its depths."""
    return Size(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)


def row(title: str, candidate: Candidate) -> list[str]:
    """Return the table row of a candidate."""
    plain, final = candidate.plain, candidate.final
    missed = [name for name, holds in candidate.text.items() if not holds]
    return [
        title,
        f"{candidate.layers}; {format_depths(candidate.three_stage)}; {format_depths(candidate.enhanced)}",
        f"{plain.width}; {final.width}",
        str(final.head_dim),
        f"{plain.text_width}; {final.text_width}",
        *(f"{candidate.counts[name]:.0f} ({candidate.deviations[name]:+.1%})" for name in PUBLISHED),
        "all" if candidate.worst <= TOLERANCE else f"no ({candidate.worst:.1%})",
        f"{candidate.printed} of 4",
        ", ".join(missed) or "none",
    ]


def format_depths(depths: Depths) -> str:
    return "+".join(map(str, depths))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chosen", action="store_true", help="print only the networks of experiments/paper")
    args = parser.parse_args(arguments)
    rows = [] if args.chosen else [row(family.title, best(family)) for family in FAMILIES]
    rows.append(row("experiments/paper", chosen()))
    headers = ["", "layers of\nA; B, C; D", "width of\nA-C; D", "head\nsize", "text width\nof A-C; D",
               *(f"{letter}\n({count:.0f} M)" for letter, count in PUBLISHED.items()),
               "within\n5%", "numbers\nof Fig. 2", "not as in the text"]  # fmt: skip
    print(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))


if __name__ == "__main__":
    main()
