"""Draws the masks of ASSA's two branches, as computed by the network's code."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from docs.drawings.experiments import PRETRAIN, Data, experiment
from docs.drawings.shapes import LINE, canvas, label, rectangle
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.neighborhood import block_edges, neighborhood_mask
from pocketdit.backbones.spec import AdaptiveSparseAttention

QUERY = (6, 10)  # row and column of the token whose keys are shown
LEFT, RIGHT, SIZE = 2.5, 28.5, 21.0  # x coordinates of the left and right masks, and their side length
STRONG_BLUE, STRONG_ORANGE, PALE = "#5c9bd1", "#eb9a45", "#f4f6f7"

Mask = NDArray[np.bool_]


def outer_attention() -> AdaptiveSparseAttention:
    """Return the attention of the outer stages in the paper's supernet."""
    attention = experiment(PRETRAIN).dit.levels[0].attention
    assert isinstance(attention, AdaptiveSparseAttention)
    return attention


def pretraining_grid() -> int:
    """Return the number of tokens per side of a square image in the first stage of pre-training."""
    config = experiment(PRETRAIN)
    return int(config.data.init_args["base_size"]) // 8 // config.backbone.patch_size


def local_mask(side: int, attention: AdaptiveSparseAttention) -> Mask:
    """Return the local branch's mask (N, N) for side * side tokens, which is True where a query attends to a key."""
    mask: Mask = neighborhood_mask(side**2, attention.blocks, attention.radius, torch.device("cpu")).numpy()
    return mask


def compressed_tokens(side: int) -> Mask:
    """Return a mask (N / 4, N) that is True where a compressed key has a nonzero gradient with respect to a token."""
    torch.manual_seed(0)
    layer = AdaptiveSparseSelfAttention(8, 8, AdaptiveSparseAttention("assa", kv_heads=1))
    k = torch.randn(1, 1, side**2, 8, requires_grad=True)
    keys = layer.compress(k, layer.compress_k, layer.compressed_k_norm, (side, side))[0, 0, :, 0]
    gradients = (torch.autograd.grad(key, k, retain_graph=True)[0] for key in keys)
    return np.stack([(gradient[0, 0] != 0).any(-1).numpy() for gradient in gradients])


def rectangles(mask: Mask) -> list[tuple[int, int, int, int]]:
    """Cover the True entries of a mask with disjoint rectangles (row, column, height, width)."""
    covered = []
    row_edges = [0, *(np.flatnonzero((mask[1:] != mask[:-1]).any(1)) + 1).tolist(), len(mask)]
    for top, bottom in pairwise(row_edges):
        steps = np.flatnonzero(np.diff(mask[top].astype(int), prepend=0, append=0)).tolist()
        covered += [
            (top, left, bottom - top, right - left) for left, right in zip(steps[::2], steps[1::2], strict=True)
        ]
    return covered


def assa_data() -> Data:
    """Return the data that ``draw_assa`` shows: the masks of both branches as rectangles, and the sizes."""
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
