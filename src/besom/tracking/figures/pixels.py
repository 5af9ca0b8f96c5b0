"""Small pictures inside a large one, each pixel a square, however large it is shown."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

_COLORS = {1: 0, 3: 2}  # bytes a pixel: PNG's number for grey, and for red, green and blue


def image(x: float, y: float, *, width: float, height: float, pixels: bytes, columns: int, channels: int = 1) -> str:
    """Return an image of that size at a place: 8-bit pixels, row by row, in grey or with three channels."""
    source = b64encode(png(pixels, columns=columns, channels=channels)).decode()
    return (
        f'<image x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{source}"/>'
    )


def png(pixels: bytes, *, columns: int, channels: int = 1) -> bytes:
    """Return 8-bit pixels as a PNG file (ISO/IEC 15948)."""
    size = columns * channels
    lines = [b"\0" + pixels[start : start + size] for start in range(0, len(pixels), size)]  # 0: as they are
    header = struct.pack(">IIBBBBB", columns, len(lines), 8, _COLORS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
