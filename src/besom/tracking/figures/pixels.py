"""Raster images inside an SVG, scaled without smoothing."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

_COLORS = {1: 0, 3: 2}  # channels: PNG's color type of greyscale, and of RGB


def image(x: float, y: float, *, width: float, height: float, pixels: bytes, columns: int, channels: int = 1) -> str:
    """Return an SVG image of that size at (x, y) from 8-bit pixels, row by row, greyscale or RGB."""
    source = b64encode(png(pixels, columns=columns, channels=channels)).decode()
    return (
        f'<image x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{source}"/>'
    )


def png(pixels: bytes, *, columns: int, channels: int = 1) -> bytes:
    """Return 8-bit pixels as a PNG file (ISO/IEC 15948)."""
    size = columns * channels
    lines = [b"\0" + pixels[start : start + size] for start in range(0, len(pixels), size)]  # filter type 0: none
    header = struct.pack(">IIBBBBB", columns, len(lines), 8, _COLORS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
