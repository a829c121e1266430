"""Renders an image grid of the prompts with the best, median and worst scores."""

from typing import Any

from PIL import Image, ImageDraw, ImageFont

from evaluation.contract import ImageSet, Result, open_image

_TILE, _CAPTION, _LABELS = 160, 46, 60  # side of a tile, height of a caption, and width of the row labels, in pixels
_COLUMNS = 5  # tiles per row
_MOST = 500  # maximum number of characters of a caption to wrap, far more than fit


def render_grid(result: Result, images: ImageSet) -> Image.Image | None:
    """Render the first image of each of the prompts with the best, median and worst values, in three rows.

    Returns:
        The grid, or None if the result has no per-prompt values.
    """
    overall = result.scores.get("overall") or next(iter(result.scores.values()))
    if not overall.by_prompt:
        return None
    sign = 1 if result.higher_is_better else -1
    ranked = sorted(overall.by_prompt, key=lambda name: (-sign * overall.by_prompt[name], name))
    count = min(_COLUMNS, len(ranked))
    middle = (len(ranked) - count) // 2
    rows = [("best", ranked[:count]), ("median", ranked[middle : middle + count]), ("worst", ranked[-count:])]
    texts = {prompt.id: prompt.text for prompt in images.prompts.prompts}
    sheet = Image.new("RGB", (_LABELS + count * _TILE, len(rows) * (_TILE + _CAPTION)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for row, (title, names) in enumerate(rows):
        top = row * (_TILE + _CAPTION)
        pen.text((4, top + _TILE // 2), title, "black", font)
        for column, name in enumerate(names):
            left = _LABELS + column * _TILE
            image = Image.fromarray(open_image(images.images[name][0]))
            image.thumbnail((_TILE - 6, _TILE - 6))
            sheet.paste(image, (left, top))
            caption = Image.new("RGB", (_TILE - 8, _CAPTION), "white")
            text = _wrap(f"{overall.by_prompt[name]:.3f} {texts[name]}", pen, font, caption.width, lines=2)
            ImageDraw.Draw(caption).multiline_text((0, 0), text, "black", font, spacing=1)
            sheet.paste(caption, (left, top + _TILE - 4))  # cuts words that are wider than the tile
    return sheet


def _wrap(text: str, pen: ImageDraw.ImageDraw, font: Any, width: int, lines: int) -> str:
    """Wrap text to at most ``lines`` lines of ``width`` pixels, and truncate the rest. Line breaks become spaces."""
    rows = [""]
    for word in text[:_MOST].split():
        if rows[-1] and pen.textlength(f"{rows[-1]} {word} ...", font) > width:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}" if rows[-1] else word
    wrapped = "\n".join(rows[:lines])
    return f"{wrapped} ..." if len(rows) > lines or len(text) > _MOST else wrapped
