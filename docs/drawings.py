"""Draw the diagrams of docs/concepts.md: masks and shapes come from the network's code, settings from the experiments.

python docs/drawings.py [--out docs/images]

The output is deterministic. Each SVG contains the numbers that it shows as JSON in its description.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.neighborhood import block_edges, neighborhood_mask
from pocketdit.backbones.spec import FULL_WIDTH, AdaptiveSparseAttention
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.diffusion.samplers import uniform_times

ROOT = Path(__file__).parents[1]
PRETRAIN = ROOT / "experiments" / "paper" / "elastic_256.yaml"
DISTILL = ROOT / "experiments" / "paper" / "step_distill_1024.yaml"
QUERY = (6, 10)  # row and column of the token whose keys are shown
LEFT, RIGHT, SIZE = 2.5, 28.5, 21.0  # columns of the masks, and their size
IMAGE_SIDE = 1024  # pixels, for the token counts of the backbone

INK, LINE = "#1c2733", "#5b6770"
GREY, BLUE, ORANGE, GREEN, PURPLE = "#edf0f2", "#cfe2f3", "#fbdcb8", "#d3ebd0", "#e4d9f2"
STRONG_BLUE, STRONG_ORANGE, PALE = "#5c9bd1", "#eb9a45", "#f4f6f7"
WIDTH_COLORS = ("#1f6fb2", "#79b4e2", "#d3e6f6")  # narrow to wide

Mask = NDArray[np.bool_]
Data = Mapping[str, Any]


@cache
def experiment(path: Path) -> Experiment:
    """Load an experiment without importing the classes that it names."""
    return load(path, [], Experiment, classes=False).config


# Data


def outer_attention() -> AdaptiveSparseAttention:
    """Return the attention of the outer stages in the paper's supernet."""
    attention = experiment(PRETRAIN).backbone.levels[0].attention
    assert isinstance(attention, AdaptiveSparseAttention)
    return attention


def pretraining_grid() -> int:
    """Return the tokens per side of a square image in the first stage of pre-training."""
    config = experiment(PRETRAIN)
    return int(config.data.init_args["base_size"]) // 8 // config.backbone.patch_size


def local_mask(side: int, attention: AdaptiveSparseAttention) -> Mask:
    """Return the mask (N, N) of the local branch for side * side tokens, True where a query attends to a key."""
    mask: Mask = neighborhood_mask(side**2, attention.blocks, attention.radius, torch.device("cpu")).numpy()
    return mask


def compressed_tokens(side: int) -> Mask:
    """Return a mask (N / 4, N), True where a compressed key depends on a token: the compression's nonzero gradients."""
    torch.manual_seed(0)
    layer = AdaptiveSparseSelfAttention(8, 8, AdaptiveSparseAttention("assa", kv_heads=1))
    k = torch.randn(1, 1, side**2, 8, requires_grad=True)
    keys = layer.compress(k, layer.compress_k, layer.compressed_k_norm, (side, side))[0, 0, :, 0]
    gradients = (torch.autograd.grad(key, k, retain_graph=True)[0] for key in keys)
    return np.stack([(gradient[0, 0] != 0).any(-1).numpy() for gradient in gradients])


def rectangles(mask: Mask) -> list[tuple[int, int, int, int]]:
    """Cover the True entries of a mask by disjoint rectangles (row, column, height, width)."""
    covered = []
    row_edges = [0, *(np.flatnonzero((mask[1:] != mask[:-1]).any(1)) + 1).tolist(), len(mask)]
    for top, bottom in pairwise(row_edges):
        steps = np.flatnonzero(np.diff(mask[top].astype(int), prepend=0, append=0)).tolist()
        covered += [
            (top, left, bottom - top, right - left) for left, right in zip(steps[::2], steps[1::2], strict=True)
        ]
    return covered


def assa_data() -> Data:
    """Return what ``draw_assa`` shows: both branches' masks as rectangles, and the sizes."""
    side, attention = pretraining_grid(), outer_attention()
    mask, compressed = local_mask(side, attention), compressed_tokens(side)
    query = QUERY[0] * side + QUERY[1]
    seen = np.ones((side**2, len(compressed)), bool)  # the global branch has no mask
    return {
        "side": side,
        "blocks": attention.blocks,
        "radius": attention.radius,
        "edges": block_edges(side**2, attention.blocks),
        "local": rectangles(mask),
        "local_query": rectangles(mask[query].reshape(side, side)),
        "global": rectangles(seen),
        "groups": [rectangles(tokens.reshape(side, side))[0] for tokens in compressed],
    }


def slicing_data() -> Data:
    """Return the shapes of one block's weights in every sub-network of the paper's supernet."""
    spec = experiment(PRETRAIN).backbone
    spec = replace(spec, levels=tuple(replace(level, depth=1) for level in spec.levels))
    block = "stages.0.blocks.0"
    names = {
        "ffn": f"{block}.ffn.contract.weight",
        "q": f"{block}.attention.q.weight",
        "kv": f"{block}.attention.kv.weight",
        "cross_kv": f"{block}.cross.kv.weight",
    }
    data: dict[str, Any] = {"widths": sorted(spec.widths), "hidden": [spec.hidden_size(w) for w in sorted(spec.widths)]}
    for hidden in data["hidden"]:
        with torch.device("meta"):
            weights = ElasticDiT(replace(spec, width=hidden, widths=(FULL_WIDTH,))).state_dict()
        for key, name in names.items():
            data.setdefault(key, []).append(list(weights[name].shape))
        data.setdefault("table", []).append(list(weights[f"{block}.tables.{hidden}.offsets"].shape))
    return data


def backbone_data() -> Data:
    """Return the depth, attention and tokens per side of every stage of the paper's supernet at 1024x1024 pixels."""
    spec = experiment(PRETRAIN).backbone
    side = IMAGE_SIDE // 8 // spec.patch_size
    return {
        "depths": [level.depth for level in spec.levels],
        "kinds": [level.attention.kind for level in spec.levels],
        "ffn": [level.ffn_ratio for level in spec.levels],
        "sides": [side // level.scale for level in spec.levels],
        "long_skips": [level.long_skips for level in spec.levels],
    }


def k_dmd_data() -> Data:
    """Return the settings of the paper's step distillation that ``draw_k_dmd`` shows."""
    settings = experiment(DISTILL).stage.init_args
    times = uniform_times(int(settings["steps"]), float(settings["time_shift"]))
    return {
        "times": [round(time, 4) for time in times],
        **{key: settings[key] for key in ("guidance", "rank", "student_every")},
    }


# Drawing


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a white figure of a size in inches, with axes in tenths of an inch and the origin at the top left."""
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10 * width), ylim=(10 * height, 0))
    axes.set_axis_off()
    return figure, axes


def label(axes: Axes, x: float, y: float, text: str, size: float = 12, **style: Any) -> None:
    """Write text, by default centered at (x, y)."""
    default: dict[str, Any] = {
        "ha": "center",
        "va": "center_baseline",
        "color": INK,
        "fontsize": size,
        "linespacing": 1.3,
    }
    axes.text(x, y, text, **default | style)


def rectangle(axes: Axes, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """Draw a rectangle whose top left corner is at (x, y)."""
    axes.add_patch(Rectangle((x, y), width, height, **{"linewidth": 0} | style))


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: float = 11.5) -> None:
    """Draw a rounded box with text, centered at (x, y)."""
    patch: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.8",
        "facecolor": color,
        "edgecolor": LINE,
        "linewidth": 1.2,
    }
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **patch))
    label(axes, x, y, text, size, va="center")


def legend(axes: Axes, x: float, y: float, color: str, text: str) -> None:
    """Draw a square of a color whose top left corner is at (x, y), with text beside it."""
    rectangle(axes, x, y, 2.0, 2.0, facecolor=color, edgecolor=LINE, linewidth=0.8)
    label(axes, x + 2.8, y + 1.1, text, 11.5, ha="left")


def arrow(axes: Axes, *points: tuple[float, float], **style: Any) -> None:
    """Draw a polyline through the points with an arrowhead at its end."""
    line: dict[str, Any] = {"color": LINE, "linewidth": 1.4} | style
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), solid_capstyle="butt", solid_joinstyle="round", **line)
    head: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], **head, **line))


def plus(axes: Axes, x: float, y: float) -> None:
    """Draw a sum."""
    axes.plot(x, y, "o", color="white", markeredgecolor=LINE, markeredgewidth=1.2, markersize=11.5, zorder=3)
    axes.plot(x, y, "+", color=LINE, markeredgewidth=1.4, markersize=7, zorder=4)


def draw_assa(data: Data) -> Figure:
    """Draw what one token sees in both branches of ASSA, and the masks of all tokens."""
    figure, axes = canvas(5.2, 6.4)
    side, tokens, groups = data["side"], data["side"] ** 2, len(data["groups"])
    seen = sum(height * width for _, _, height, width in data["local_query"])
    local = (f"{data['blocks']} blocks, radius {data['radius']}", f"One token sees {seen} of {tokens} keys", tokens)
    compressed = ("keys merged 2×2", f"One token sees all {groups} keys", groups)
    cell, pixel = SIZE / side, SIZE / tokens
    for top, name, color, (kind, sees, keys) in (
        (8.0, "local", STRONG_BLUE, local),
        (39.0, "global", STRONG_ORANGE, compressed),
    ):
        label(axes, LEFT, top - 5.2, f"{name.capitalize()} branch: {kind}", 13.5, ha="left", weight="bold")
        label(axes, LEFT, top - 1.8, sees, 11.5, ha="left")
        label(axes, RIGHT + SIZE, top - 1.8, "All tokens", 11.5, ha="right")
        for x in (LEFT, RIGHT):
            rectangle(axes, x, top, SIZE, SIZE, facecolor=PALE)
        for row, column, height, width in data["local_query"] if name == "local" else data["groups"]:
            place = (LEFT + column * cell, top + row * cell, width * cell, height * cell)
            rectangle(axes, *place, facecolor=color, edgecolor="white", linewidth=1.2)
        for index in range(1, side) if name == "local" else ():
            line: dict[str, Any] = {"color": "white", "linewidth": 0.8, "solid_capstyle": "butt"}
            axes.plot([LEFT, LEFT + SIZE], [top + index * cell] * 2, **line)
            axes.plot([LEFT + index * cell] * 2, [top, top + SIZE], **line)
        for row, column, height, width in data[name]:
            place = (RIGHT + column * pixel, top + row * pixel, width * pixel, height * pixel)
            rectangle(axes, *place, facecolor=color)
        for x, columns in ((LEFT, tokens), (RIGHT, keys)):
            rectangle(axes, x, top, columns * pixel, SIZE, facecolor="none", edgecolor=LINE, linewidth=1)
        query = (LEFT + (QUERY[1] + 0.5) * cell, top + (QUERY[0] + 0.5) * cell)
        axes.plot(*query, "o", color="#c0262d", markersize=6.5, markeredgecolor="white")
        label(axes, LEFT + SIZE / 2, top + SIZE + 1.8, f"{side} × {side} tokens", 11)
        label(axes, RIGHT + max(keys * pixel / 2, 3), top + SIZE + 1.8, f"{keys} keys", 11)
        label(axes, RIGHT - 1.4, top + SIZE / 2, "queries", 11, rotation=90, va="center")
    return figure


def draw_slicing(data: Data) -> Figure:
    """Draw the weights of one block to scale, with the part that each width uses."""
    figure, axes = canvas(5.2, 5.2)
    scale, left, middle = 46 / data["ffn"][-1][1], 3.0, 20.5

    def matrix(x: float, y: float, key: str, title: str, note: str = "") -> None:
        rows, columns = data[key][-1]
        label(axes, x, y - 1.6, title, 11.5, ha="left")
        label(axes, x, y + rows * scale + 2, note, 11, ha="left", color=LINE)
        for shape, color in reversed(list(zip(data[key], WIDTH_COLORS, strict=True))):
            shared = data[key][0] == data[key][-1]
            rectangle(axes, x, y, shape[1] * scale, shape[0] * scale, facecolor=PURPLE if shared else color)
        rectangle(axes, x, y, columns * scale, rows * scale, facecolor="none", edgecolor=LINE, linewidth=1)

    names = [f"{width:g}× ({hidden})" for width, hidden in zip(data["widths"], data["hidden"], strict=True)]
    for x, name, color in zip((left, middle, 36.5), names, WIDTH_COLORS, strict=True):
        legend(axes, x, 1.7, color, name)
    matrix(left, 8.6, "ffn", "Feed-forward, second layer: rows and columns")
    matrix(left, 25.0, "q", "Query projection", "rows and columns")
    matrix(middle, 25.0, "kv", "Self-attention, keys and values", "columns only")
    matrix(middle, 35.0, "cross_kv", "Cross-attention, keys and values", "not sliced, shared by all widths")
    label(axes, left, 43.4, "Modulation: one table per width, nothing shared", 11.5, ha="left")
    x = left
    for (rows, columns), color in zip(data["table"], WIDTH_COLORS, strict=True):
        for row in range(rows):
            place = (x, 45.0 + 0.75 * row, columns * scale, 0.75)
            rectangle(axes, *place, facecolor=color, edgecolor="white", linewidth=0.5)
        rectangle(axes, x, 45.0, columns * scale, 0.75 * rows, facecolor="none", edgecolor=LINE, linewidth=1)
        x += columns * scale + 3
    return figure


def draw_backbone(data: Data) -> Figure:
    """Draw the three stages, and the parts of one block beside them."""
    figure, axes = canvas(5.2, 7.2)
    draw_stages(axes, data)
    draw_block(axes)
    legend(axes, 3.0, 67.4, ORANGE, "set by the time")
    legend(axes, 22.0, 67.4, PURPLE, "reads the text")
    return figure


def draw_stages(axes: Axes, data: Data) -> None:
    """Draw the flow through the down, middle and up stages."""
    x, wide, skip = 13.0, 21.0, 26.5
    kinds = {"assa": "ASSA", "full": "full attention"}
    stages = {"Down": 14.0, "Middle": 32.0, "Up": 53.0}
    for index, (name, y) in enumerate(stages.items()):
        depth, side, ffn = (data[key][index] for key in ("depths", "sides", "ffn"))
        text = f"{name}: {depth} blocks\n{kinds[data['kinds'][index]]}\nFFN ratio {ffn:g}"
        text += f"\n{side} × {side} tokens" + ("\nlong skips" if data["long_skips"][index] else "")
        outer = side == max(data["sides"])
        box(axes, x, y, wide if outer else 16, 10 if outer else 12, text, BLUE if outer else GREEN)
    for y, text in ((4.0, "patches"), (22.6, "merge 2×2"), (41.3, "split 2×2"), (63.0, "velocity")):
        box(axes, x, y, wide if text in ("patches", "velocity") else 12, 3.2, text, GREY)
    for start, end in ((5.6, 9), (19, 21), (24.2, 26), (38, 39.7), (42.9, 44.3), (45.7, 48), (58, 61.4)):
        arrow(axes, (x, start), (x, end))
    plus(axes, x, 45.1)
    arrow(axes, (x, 20), (skip, 20), (skip, 45.1), (x + 0.8, 45.1))


def draw_block(axes: Axes) -> None:
    """Draw the three residual branches of one block."""
    x, top, skip = 39.5, 6.5, 50.0
    label(axes, x, 4.2, "One block", 12.5, weight="bold")
    norm, gate = ("norm, scale, shift", ORANGE), ("gate", ORANGE)
    for parts in (
        (norm, ("self-attention", BLUE), gate),
        (("cross-attention", PURPLE),),
        (norm, ("feed-forward", GREY), gate),
    ):
        end = top + 5.2 * len(parts) - 0.4
        for index, (text, color) in enumerate(parts):
            y = top + 4.8 + 5.2 * index
            arrow(axes, (x, y - 3.5 if index else top), (x, y - 1.7))
            box(axes, x, y, 17, 3.4, text, color)
        arrow(axes, (x, end + 1.7), (x, end + 3.8))
        plus(axes, x, end + 4.6)
        arrow(axes, (x, top + 1.4), (skip, top + 1.4), (skip, end + 4.6), (x + 0.8, end + 4.6))
        top = end + 5.3
    arrow(axes, (x, top), (x, top + 3))


def draw_k_dmd(data: Data) -> Figure:
    """Draw the data flow of an iteration of K-DMD."""
    figure, axes = canvas(5.2, 7.3)
    left, right, wide = 14.5, 40.0, 18.0
    times = ", ".join(f"{time:g}" for time in data["times"][:-1])
    lora = f"LoRA, rank {data['rank']}"
    box(axes, 26, 4.4, 46, 5.4, f"Roll-out of the student from noise, no gradient,\nto one of its times: {times}", GREY)
    box(axes, 26, 12.2, 7, 3.8, "$x_t$", GREY, size=13)
    box(axes, left, 20.4, wide, 6, f"Student $\\theta$\n{lora}", GREEN)
    box(axes, right, 20.4, wide, 6, "Few-step teacher $\\xi'$\nits LoRA on", GREY)
    box(axes, right, 31.6, wide, 6, "$\\mathcal{L}_{out}+\\mathcal{L}_{feat}$\nEq. 6 and 7", ORANGE)
    box(axes, left, 31.6, wide, 4.2, "$\\hat{x}_0 = x_t - t\\,v_\\theta$", GREY, size=13)
    box(axes, left, 40.4, wide, 3.8, "add noise at time $\\tau$", GREY)
    box(axes, 9.0, 49.2, 13, 6.2, f"Teacher $\\xi$\nguidance {data['guidance']:g}", GREY)
    box(axes, 24.0, 49.2, 14, 6.2, f"Critic $c$\n{lora}", GREEN)
    box(axes, left, 60.0, wide, 6, "$\\mathcal{L}_{DMD}$, Eq. 9\ncritic − teacher", ORANGE)
    box(axes, 42.0, 49.2, 15, 6.2, "Flow matching\nEq. 4", ORANGE)
    for x, start, end in (
        *((26, 7.1, 10.3), (right, 23.4, 28.6), (left, 23.4, 29.5), (left, 33.7, 38.5)),
        *((9.5, 42.3, 46.1), (20, 42.3, 46.1), (9.5, 52.3, 57), (20, 52.3, 57)),
    ):
        arrow(axes, (x, start), (x, end))
    arrow(axes, (31, 49.2), (34.5, 49.2))
    for x in (left, right):
        arrow(axes, (26 + (3.5 if x > 26 else -3.5), 12.2), (x, 12.2), (x, 17.4))
    arrow(axes, (left + wide / 2, 20.4), (27.2, 20.4), (27.2, 31.6), (right - wide / 2, 31.6))
    label(axes, 28.0, 26.0, "$v_\\theta$, features", 11.5, ha="left")
    arrow(axes, (left, 36.3), (42, 36.3), (42, 46.1), linestyle="--")
    label(axes, 33, 38.3, "no gradient", 11.5)
    legend(axes, 29, 57.6, GREEN, "trained")
    legend(axes, 29, 61.2, GREY, "frozen, or no weights")
    legend(axes, 29, 64.8, ORANGE, "loss")
    label(axes, 26, 70.2, f"Critic: every iteration. Student: every {data['student_every']}th.", 11.5)
    return figure


DRAWINGS: dict[str, tuple[Callable[[], Data], Callable[[Data], Figure]]] = {
    "assa_masks": (assa_data, draw_assa),
    "elastic_slicing": (slicing_data, draw_slicing),
    "k_dmd": (k_dmd_data, draw_k_dmd),
    "backbone": (backbone_data, draw_backbone),
}


def write(out: Path) -> None:
    """Write all drawings to a folder."""
    for name, (data_of, draw) in DRAWINGS.items():
        data = data_of()
        with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
            draw(data).savefig(out / f"{name}.svg", metadata={"Date": None, "Description": json.dumps(data)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", metavar="FOLDER")
    write(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main()
