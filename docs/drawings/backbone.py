"""Draws the three stages of the network, and one block."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.drawings.experiments import PRETRAIN, Data, experiment
from docs.drawings.shapes import BLUE, GREEN, GREY, ORANGE, PURPLE, arrow, box, canvas, label, legend, plus

IMAGE_SIDE = 1024  # side of the images in pixels, which determines the token counts


def backbone_data() -> Data:
    """Return the depth, attention and tokens per side of every stage of the paper's supernet at 1024x1024 pixels."""
    spec = experiment(PRETRAIN).dit
    side = IMAGE_SIDE // 8 // spec.patch_size
    return {
        "depths": [level.depth for level in spec.levels],
        "kinds": [level.attention.kind for level in spec.levels],
        "ffn": [level.ffn_ratio for level in spec.levels],
        "sides": [side // level.scale for level in spec.levels],
        "long_skips": [level.long_skips for level in spec.levels],
    }


def draw_backbone(data: Data) -> Figure:
    """Draw the three stages and, beside them, the parts of one block."""
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
