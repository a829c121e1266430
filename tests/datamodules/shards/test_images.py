"""Tests that images are read with the pixels that color-managed viewers show: color, depth, alpha, and orientation."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from datamodules.imports.build import build_dataset
from evaluation.metrics.image_source import open_source
from tests.datamodules.imports.user_folder import seen

COLORS = np.array([[[200, 30, 60], [40, 180, 90], [20, 60, 220], [128, 128, 128], [250, 240, 10]]], dtype=np.uint8)
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
D65 = (0.3127, 0.3290)


def rgb_to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Compute the matrix that converts linear RGB with white point D65 to XYZ, from the chromaticities."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected_srgb(pixels: np.ndarray, gamma: float, primaries: tuple[tuple[float, float], ...] = SRGB) -> np.ndarray:
    linear = (pixels / 255) ** gamma
    return srgb_encode(linear @ (np.linalg.inv(rgb_to_xyz(SRGB)) @ rgb_to_xyz(primaries)).T)


def icc_profile(space: str, gamma: float, primaries: tuple[tuple[float, float], ...] = SRGB) -> bytes:
    """Return an ICC version 2 profile with a gamma curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {"kTRC": curve}
    if space == "RGB ":
        # Bradford adaptation matrix from D65 to D50, as published by Lindbloom.
        adaptation = np.array(
            [[1.0478112, 0.0228866, -0.0501270], [0.0295424, 0.9904844, -0.0170491], [-0.0092345, 0.0150436, 0.7521316]]
        )
        columns = (adaptation @ rgb_to_xyz(primaries)).T
        tags = {f"{name}TRC": curve for name in "rgb"}
        for name, column in zip("rgb", columns, strict=True):
            tags[f"{name}XYZ"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(column * 65536).astype(int))
    tags["wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name.encode() + struct.pack(">II", start + len(content), len(tag))
        content += tag
    header = struct.pack(">I4xI4s4s4s", start + len(content), 0x02400000, b"mntr", space.encode(), b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + content


def png_with_chunks(pixels: np.ndarray, **chunks: bytes) -> bytes:
    """Return a PNG file with additional chunks after its header."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    added = b"".join(
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in chunks.items()
    )
    return content[:33] + added + content[33:]


def gamma_chunks(gamma: float, primaries: tuple[tuple[float, float], ...]) -> dict[str, bytes]:
    numbers = [round(100_000 * value) for point in (D65, *primaries) for value in point]
    return {"gAMA": struct.pack(">I", round(100_000 / gamma)), "cHRM": struct.pack(">8I", *numbers)}


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.avif", "a.jpg"])
@pytest.mark.parametrize(("gamma", "primaries"), [(2.2, DISPLAY_P3), (563 / 256, ADOBE_RGB), (1.0, SRGB)])
def test_icc_profile_is_converted_to_srgb(
    tmp_path: Path, source: Path, name: str, gamma: float, primaries: tuple[tuple[float, float], ...]
) -> None:
    image = Image.fromarray(COLORS.repeat(16, 0).repeat(16, 1))
    options: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"} if name[2:] in ("avif", "jpg") else {}
    if name == "a.webp":
        options = {"lossless": True}
    image.save(source / name, icc_profile=icc_profile("RGB ", gamma, primaries), **options)
    pixels = seen(tmp_path, name)[8, 8::16]
    tolerance = 6 if name[2:] in ("avif", "jpg") else 2
    assert np.abs(pixels - expected_srgb(COLORS[0], gamma, primaries)).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_icc_profile_applies_in_every_mode(tmp_path: Path, source: Path, mode: str) -> None:
    space = "GRAY" if mode[0] == "L" else "RGB "
    image = Image.new("RGB", (8, 8), (128, 128, 128))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    image.save(source / "a.png", icc_profile=icc_profile(space, 1.0))
    assert np.abs(seen(tmp_path, "a.png") - 188.0).max() <= 1


def test_rgb_profile_applies_to_a_gray_jpeg(tmp_path: Path, source: Path) -> None:
    Image.new("L", (8, 8), 128).save(source / "a.jpg", icc_profile=icc_profile("RGB ", 1.0))
    assert np.abs(seen(tmp_path, "a.jpg") - 188.0).max() <= 2


@pytest.mark.parametrize(
    "profile",
    [
        b"garbage",
        icc_profile("GRAY", 1.0),
        icc_profile("RGB ", 2.2)[:200],
        icc_profile("RGB ", 2.2).replace(b"RGB ", b"R\x93B "),
    ],
)
def test_unusable_profile_is_ignored(tmp_path: Path, source: Path, profile: bytes) -> None:
    Image.fromarray(COLORS).save(source / "a.png", icc_profile=profile)
    assert np.array_equal(seen(tmp_path, "a.png"), COLORS)


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x09", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_damaged_exif_data_are_ignored(tmp_path: Path, source: Path, name: str, exif: bytes) -> None:
    Image.new("RGB", (8, 8), (200, 30, 60)).save(source / name, exif=exif)
    assert np.abs(seen(tmp_path, name) - np.array([200.0, 30, 60])).max() <= 3


def test_file_with_an_srgb_profile_keeps_its_pixels(tmp_path: Path, source: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLORS).save(source / "a.tif", icc_profile=profile)
    assert np.array_equal(seen(tmp_path, "a.tif"), COLORS)


@pytest.mark.parametrize(("gamma", "primaries"), [(1.0, SRGB), (1.8, SRGB), (2.6, DISPLAY_P3)])
def test_png_gamma_and_primaries_are_converted(
    tmp_path: Path, source: Path, gamma: float, primaries: tuple[tuple[float, float], ...]
) -> None:
    (source / "a.png").write_bytes(png_with_chunks(COLORS, **gamma_chunks(gamma, primaries)))
    assert np.abs(seen(tmp_path, "a.png") - expected_srgb(COLORS, gamma, primaries)).max() <= 2


def test_png_with_the_gamma_of_srgb_keeps_its_pixels(tmp_path: Path, source: Path) -> None:
    (source / "a.png").write_bytes(png_with_chunks(COLORS, gAMA=struct.pack(">I", 45455)))
    assert np.array_equal(seen(tmp_path, "a.png"), COLORS)


def test_adobe_rgb_of_a_camera_is_converted(tmp_path: Path, source: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    image = Image.fromarray(COLORS.repeat(16, 0).repeat(16, 1))
    image.save(source / "a.jpg", exif=exif, quality=100, subsampling=0)
    pixels = seen(tmp_path, "a.jpg")[8, 8::16]
    assert np.abs(pixels - expected_srgb(COLORS[0], 563 / 256, ADOBE_RGB)).max() <= 4


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([0, 257 * 77, 65535], np.uint16), [0, 77, 255]),
        (np.array([0, 128 * 256, 65535], np.int32), [0, 128, 255]),
        (np.array([0, 128, 255], np.int32), [0, 128, 255]),
        (np.array([0, 2**30, 2**31 - 1], np.int32), [0, 128, 255]),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
        (np.array([0, 77, 255], np.float32), [0, 77, 255]),
    ],
)
def test_deep_gray_tiff_is_scaled_to_its_white(
    tmp_path: Path, source: Path, values: np.ndarray, shown: list[int]
) -> None:
    Image.fromarray(values[None]).save(source / "a.tif")
    assert seen(tmp_path, "a.tif")[0].tolist() == [[level] * 3 for level in shown]


def test_gray_tiff_whose_lowest_value_is_white_is_inverted(tmp_path: Path, source: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 77, 65535]], np.uint16)).save(source / "a.tif", tiffinfo={262: 0})
    assert seen(tmp_path, "a.tif")[0, :, 0].tolist() == [255, 178, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 3.0])
def test_gray_values_without_a_white_are_refused(tmp_path: Path, source: Path, value: float) -> None:
    Image.fromarray(np.full((4, 4), value, np.float32)).save(source / "a.tif")
    Image.fromarray(COLORS).save(source / "b.png")
    for name in "ab":
        (source / f"{name}.txt").write_text("a caption")
    (skipped,) = build_dataset(source, tmp_path / "out", progress=False).skipped
    assert skipped.id == "a.tif"
    assert "gray values" in skipped.reason or "scale them to the range from 0 to 1" in skipped.reason


def test_transparent_color_of_deep_gray_is_white(tmp_path: Path, source: Path) -> None:
    Image.fromarray(np.array([[300, 257 * 77]], np.uint16)).save(source / "a.png", transparency=300)
    assert seen(tmp_path, "a.png")[0, :, 0].tolist() == [255, 77]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.gif", "a.avif"])
def test_transparency_is_white_everywhere(tmp_path: Path, source: Path, name: str) -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, 8:] = (10, 200, 30, 255)
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(pixels).save(source / name, **options)
    shown = seen(tmp_path, name).astype(int)
    assert np.abs(shown[:, 2:6] - 255).max() <= 2
    assert np.abs(shown[:, 10:14] - [10, 200, 30]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_orientation_is_applied_once(tmp_path: Path, source: Path, name: str, orientation: int) -> None:
    upright = np.zeros((64, 32, 3), np.uint8)
    upright[:32, :16] = 255
    half_turn = upright[::-1, ::-1]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: half_turn,
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: half_turn.swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(source / name, exif=exif)
    assert np.abs(seen(tmp_path, name).astype(int) - upright).mean() < 3


def test_image_of_90_megapixels_is_scaled_down(tmp_path: Path, source: Path) -> None:
    Image.new("1", (9500, 9500), 1).save(source / "a.png", compress_level=1)
    (source / "a.txt").write_text("a caption")
    report = build_dataset(source, tmp_path / "out", max_side=64, progress=False)
    assert (report.train, report.skipped) == (1, [])
    assert (open_source(tmp_path / "out").read(0) == np.full((64, 64, 3), 255)).all()


def test_format_that_is_not_listed_is_refused(tmp_path: Path, source: Path) -> None:
    """PIL opens EPS files with Ghostscript, even if their suffix is .png."""
    Image.fromarray(COLORS).save(source / "a.png")
    Image.new("RGB", (8, 8)).save(source / "b.png", format="EPS")
    Image.new("RGB", (8, 8)).save(source / "c.png", format="PPM")
    for name in "abc":
        (source / f"{name}.txt").write_text("a caption")
    skipped = build_dataset(source, tmp_path / "out", progress=False).skipped
    assert [str(entry) for entry in skipped] == [
        f"{name}.png: cannot be decoded (unknown image format)" for name in "bc"
    ]
