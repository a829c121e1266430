"""Pictures of several prompts at several widths, side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 8
LINE = 16


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] (B, 3, H, W) -> uint8."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()


def grid(rows: Sequence[Tensor], row_labels: Sequence[str], captions: Sequence[str]) -> Image.Image:
    """``rows``: one uint8 tensor (B, 3, H, W) a width; column i shows ``captions[i]`` below its pictures."""
    height, width = rows[0].shape[-2:]
    font = ImageFont.load_default(12)
    columns = [wrap(caption, font, width) for caption in captions]
    left = MARGIN + max(int(font.getlength(label)) for label in row_labels) + MARGIN
    lines = max(len(column) for column in columns)
    canvas = Image.new(
        "RGB",
        (
            left + len(captions) * (width + MARGIN),
            MARGIN + len(rows) * (height + MARGIN) + lines * LINE + MARGIN,
        ),
        "white",
    )
    pen = ImageDraw.Draw(canvas)
    for r, (pictures, label) in enumerate(zip(rows, row_labels, strict=True)):
        top = MARGIN + r * (height + MARGIN)
        pen.text((MARGIN, top + height // 2 - LINE // 2), label, fill="black", font=font)
        for c, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(np.asarray(picture.permute(1, 2, 0))), (left + c * (width + MARGIN), top))
    for c, column in enumerate(columns):
        for i, line in enumerate(column):
            place = (left + c * (width + MARGIN), MARGIN + len(rows) * (height + MARGIN) + i * LINE)
            pen.text(place, line, fill="black", font=font)
    return canvas


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break at spaces so that every line fits ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
