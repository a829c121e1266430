"""Provides image files of many kinds, and a fake Ghostscript that records whether reading an image starts it."""

import io
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


def image_bytes(kind: str, size: tuple[int, int] = (64, 64), pixels: np.ndarray | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.new("RGB", size) if pixels is None else Image.fromarray(pixels).resize(size)
    image.save(file, format=kind)
    return file.getvalue()


def huge_png() -> bytes:
    """Return a small PNG whose header claims 3.6 gigapixels."""
    content = image_bytes("PNG")
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def fake_ghostscript(folder: Path) -> Path:
    """Put a fake ``gs`` program first on ``PATH``, and return the path of the file that the program creates."""
    programs, started = folder / "programs", folder / "started"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (programs / "gs").chmod(0o755)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    return started
