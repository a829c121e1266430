"""Tests that images that PIL alone reads incorrectly are either read correctly or refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.imports.build import build_dataset
from tests.datamodules.imports.user_folder import seen, write


def gray_png(levels: np.ndarray, bits: int, transparent: int) -> bytes:
    """Return a gray PNG file with fewer than 8 bits per pixel in which one level is transparent."""
    height, width = levels.shape
    rows = np.packbits(np.unpackbits(levels[..., None], axis=-1)[..., -bits:].reshape(height, -1), axis=1)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", transparent),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def tiff(samples: np.ndarray, photometric: int, *, planes: bool = False, extra: tuple[int, ...] = ()) -> bytes:
    """Return an uncompressed TIFF file.

    Args:
        samples: Values (H, W, C) with 8 or 16 bits.
        photometric: 1 for gray, 2 for RGB.
        planes: Whether each channel is stored in a separate plane.
        extra: Meaning of each channel that follows the colors; 1 is premultiplied alpha.
    """
    height, width, channels = samples.shape
    data = (samples.transpose(2, 0, 1) if planes else samples).astype(samples.dtype.newbyteorder("<")).tobytes()
    strips = channels if planes else 1
    length = len(data) // strips
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [8 * samples.itemsize] * channels),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [8 + i * length for i in range(strips)]),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [length] * strips),
        284: ("H", [2 if planes else 1]),
        **({338: ("H", list(extra))} if extra else {}),
        **({339: ("H", [2] * channels)} if samples.dtype.kind == "i" else {}),
    }
    directory, values = struct.pack("<H", len(tags)), b""
    end = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in tags.items():
        content = struct.pack(f"<{len(numbers)}{kind}", *numbers)
        if len(content) > 4:
            content, values = struct.pack("<I", end + len(values)), values + content
        directory += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + content.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4) + values


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparent_level_of_a_gray_png_with_few_bits_is_white(tmp_path: Path, source: Path, bits: int) -> None:
    white = 2**bits - 1
    levels = np.arange(white + 1, dtype=np.uint8)[None].repeat(8, 0)
    (source / "a.png").write_bytes(gray_png(levels, bits, transparent=white - 1))
    shown = levels[0] * (255 // white)
    shown[white - 1] = 255
    assert np.array_equal(seen(tmp_path, "a.png"), np.broadcast_to(shown[None, :, None], (8, white + 1, 3)))


def test_gray_tiff_with_premultiplied_alpha(tmp_path: Path, source: Path) -> None:
    alpha = np.arange(0, 256, 15, dtype=np.uint8)
    samples = np.stack([alpha // 2, alpha], axis=-1)[None].repeat(4, 0)
    (source / "a.tif").write_bytes(tiff(samples, 1, extra=(1,)))
    shown = alpha // 2 + (255 - alpha)  # the result of compositing on white
    assert np.abs(seen(tmp_path, "a.tif")[0].astype(int) - shown[:, None]).max() <= 1


@pytest.mark.parametrize(("dtype", "planes"), [(np.uint8, False), (np.uint8, True), (np.uint16, False)])
def test_layouts_of_rgb_in_tiff(tmp_path: Path, source: Path, dtype: type[np.unsignedinteger], planes: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    samples = pixels if dtype is np.uint8 else pixels.astype(np.uint16) * 257
    (source / "a.tif").write_bytes(tiff(samples, 2, planes=planes))
    assert np.array_equal(seen(tmp_path, "a.tif"), pixels)


def test_canvas_around_the_first_frame_of_a_gif_is_white(tmp_path: Path, source: Path) -> None:
    """Image viewers show this canvas as transparent, and transparent pixels become white."""
    width, height, left, top = 8, 6, 2, 1
    frame = Image.new("P", (4, 3), 0)
    frame.putpalette([200, 0, 0, 0, 200, 0])
    frame.putpixel((1, 2), 1)
    buffer = io.BytesIO()
    frame.save(buffer, "GIF", optimize=False)
    content = bytearray(buffer.getvalue())
    descriptor = content.index(b"," + struct.pack("<HHHH", 0, 0, *frame.size))
    content[6:10] = struct.pack("<HH", width, height)
    content[descriptor + 1 : descriptor + 5] = struct.pack("<HH", left, top)
    (source / "a.gif").write_bytes(content)
    expected = np.full((height, width, 3), 255, np.uint8)
    expected[top : top + 3, left : left + 4] = (200, 0, 0)
    expected[top + 2, left + 1] = (0, 200, 0)
    assert np.array_equal(seen(tmp_path, "a.gif"), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(np.zeros((8, 8, 3), np.uint16), 2, planes=True), "a TIFF of more than 8 bits in separate planes"),
        (tiff(np.zeros((8, 8, 2), np.uint16), 1, extra=(2,)), "a damaged or unsupported kind of TIFF"),
        (tiff(np.full((8, 8, 1), -1, np.int8), 1), "a TIFF of signed 8-bit numbers"),
        (b"\xff\xd8\xff\xd9", "a damaged or unsupported kind of JPEG"),
    ],
)
def test_kind_that_cannot_be_read_is_refused_by_name(tmp_path: Path, source: Path, content: bytes, reason: str) -> None:
    write(source, ["b.png"], {"a.txt": "a cat", "b.txt": "a dog"})
    (source / "a.tif").write_bytes(content)
    (skipped,) = build_dataset(source, tmp_path / "out", progress=False).skipped
    assert str(skipped) == f"a.tif: cannot be decoded ({reason}; save it as PNG)"
