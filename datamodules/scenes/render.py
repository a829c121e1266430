"""Draws scenes. Every shape is an upright polygon, so a judge can compare with the same outlines."""

import math

from PIL import Image, ImageDraw

from datamodules.scenes.scene import BACKGROUNDS, COLORS, REACH, Object, Scene

_SUPERSAMPLING = 4


def _ring(count: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon, the first one straight up (turned clockwise by ``turn`` radians)."""
    angles = (2 * math.pi * i / count + turn for i in range(count))
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _ring(5, REACH), _ring(5, 0.54, math.pi / 5)
    return [corner for pair in zip(outer, inner, strict=True) for corner in pair]


_ARM, _HALF = 1.12, 0.36  # length and half width of the cross's arms

# Corners for radius 1 around (0, 0), y down; all within REACH.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _ring(64, 1.0),
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": _ring(3, REACH),
    "star": _star(),
    "cross": [
        (-_HALF, -_ARM), (_HALF, -_ARM), (_HALF, -_HALF), (_ARM, -_HALF), (_ARM, _HALF), (_HALF, _HALF),
        (_HALF, _ARM), (-_HALF, _ARM), (-_HALF, _HALF), (-_ARM, _HALF), (-_ARM, -_HALF), (-_HALF, -_HALF),
    ],
}  # fmt: skip


def render_scene(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of its size, edges averaged over 4x4 samples a pixel."""
    picture = Image.new("RGB", (scene.width, scene.height), BACKGROUNDS[scene.background])
    for item in scene.objects:
        mask, corner = _mask(item)
        picture.paste(COLORS[item.color], corner, mask)
    return picture


def _mask(item: Object) -> tuple[Image.Image, tuple[int, int]]:
    """Coverage of the object's own box (0 to 255), and the box's top left pixel."""
    reach = REACH * item.radius + 1
    left, top = math.floor(item.x - reach), math.floor(item.y - reach)
    side = math.ceil(2 * reach) + 1
    fine = Image.new("L", (side * _SUPERSAMPLING, side * _SUPERSAMPLING))
    corners = [
        (
            (item.x + item.radius * u - left) * _SUPERSAMPLING,
            (item.y + item.radius * v - top) * _SUPERSAMPLING,
        )
        for u, v in OUTLINES[item.shape]
    ]
    ImageDraw.Draw(fine).polygon(corners, fill=255)
    return fine.reduce(_SUPERSAMPLING), (left, top)
