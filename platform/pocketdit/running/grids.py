"""Image grids with captions and row labels."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 8
LINE = 16


def image_grid(rows: Sequence[Tensor], row_labels: Sequence[str], captions: Sequence[str]) -> Image.Image:
    """Arrange images in a grid with row labels on the left and captions at the bottom.

    Args:
        rows: One uint8 tensor (B, 3, H, W) per row.
        row_labels: One label per row.
        captions: One caption per column, B in total.
    """
    height, width = rows[0].shape[-2:]
    font = ImageFont.load_default(12)
    columns = [wrap(caption, font, width) for caption in captions]
    left = MARGIN + max(int(font.getlength(label)) for label in row_labels) + MARGIN
    lines = max(len(column) for column in columns)
    size = (
        left + len(captions) * (width + MARGIN),
        MARGIN + len(rows) * (height + MARGIN) + lines * LINE + MARGIN,
    )
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for r, (images, label) in enumerate(zip(rows, row_labels, strict=True)):
        top = MARGIN + r * (height + MARGIN)
        pen.text((MARGIN, top + height // 2 - LINE // 2), label, fill="black", font=font)
        for c, image in enumerate(images):
            canvas.paste(Image.fromarray(np.asarray(image.permute(1, 2, 0))), (left + c * (width + MARGIN), top))
    for c, column in enumerate(columns):
        for i, line in enumerate(column):
            position = (left + c * (width + MARGIN), MARGIN + len(rows) * (height + MARGIN) + i * LINE)
            pen.text(position, line, fill="black", font=font)
    return canvas


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break text at spaces into lines of at most ``width`` pixels. Words that are wider are not broken."""
    lines = [""]
    for word in text.split():
        extended = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(extended) > width:
            lines.append(word)
        else:
            lines[-1] = extended
    return lines
