"""Renders scenes. Every shape is an upright polygon, so judges can compare an image with the exact outlines."""

import math

from PIL import Image, ImageDraw

from datamodules.scenes.scene import BACKGROUNDS, COLORS, REACH, Object, Scene

_SUPERSAMPLING = 4


def _regular_polygon(corners: int, radius: float, rotation: float = 0.0) -> list[tuple[float, float]]:
    """Return a regular polygon's corners. The first corner is ``rotation`` radians clockwise from the top."""
    angles = (2 * math.pi * i / corners + rotation for i in range(corners))
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular_polygon(5, REACH), _regular_polygon(5, 0.54, math.pi / 5)
    return [corner for pair in zip(outer, inner, strict=True) for corner in pair]


_ARM, _HALF = 1.12, 0.36  # length and half the width of each arm of the cross

# Corners of each shape for radius 1, centered at (0, 0) with y pointing down. No corner is farther than REACH away.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _regular_polygon(64, 1.0),
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": _regular_polygon(3, REACH),
    "star": _star(),
    "cross": [
        (-_HALF, -_ARM), (_HALF, -_ARM), (_HALF, -_HALF), (_ARM, -_HALF), (_ARM, _HALF), (_HALF, _HALF),
        (_HALF, _ARM), (-_HALF, _ARM), (-_HALF, _HALF), (-_ARM, _HALF), (-_ARM, -_HALF), (-_HALF, -_HALF),
    ],
}  # fmt: skip


def render_scene(scene: Scene) -> Image.Image:
    """Render a scene as an RGB image. Edges are antialiased with 4x4 samples per pixel."""
    image = Image.new("RGB", (scene.width, scene.height), BACKGROUNDS[scene.background])
    for item in scene.objects:
        mask, corner = _render_mask(item)
        image.paste(COLORS[item.color], corner, mask)
    return image


def _render_mask(item: Object) -> tuple[Image.Image, tuple[int, int]]:
    """Return an object's coverage (0 to 255) in a box around it, and the top left pixel of the box."""
    reach = REACH * item.radius + 1
    left, top = math.floor(item.x - reach), math.floor(item.y - reach)
    side = math.ceil(2 * reach) + 1
    supersampled = Image.new("L", (side * _SUPERSAMPLING, side * _SUPERSAMPLING))
    corners = [
        (
            (item.x + item.radius * u - left) * _SUPERSAMPLING,
            (item.y + item.radius * v - top) * _SUPERSAMPLING,
        )
        for u, v in OUTLINES[item.shape]
    ]
    ImageDraw.Draw(supersampled).polygon(corners, fill=255)
    return supersampled.reduce(_SUPERSAMPLING), (left, top)
