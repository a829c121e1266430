"""Draws the weights of one block, and the part of each weight that a width uses."""

from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure

from docs.drawings.experiments import PRETRAIN, Data, experiment
from docs.drawings.shapes import LINE, PURPLE, canvas, label, legend, rectangle
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import FULL_WIDTH

WIDTH_COLORS = ("#1f6fb2", "#79b4e2", "#d3e6f6")  # from the narrowest to the widest width


def slicing_data() -> Data:
    """Return the shapes of one block's weights in every sub-network of the paper's supernet."""
    spec = experiment(PRETRAIN).dit
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


def draw_slicing(data: Data) -> Figure:
    """Draw the weights of one block to scale, and mark the part that each width uses."""
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
