"""Reading an image file into the row of pixels that a model reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from besom.errors import DataError, in_one_line

SUFFIXES = (".png", ".jpg", ".jpeg")

_WIDE = 65535.0  # the white of 16 bits


def read_picture(path: Path, size: tuple[int, int], *, max_value: float, invert: bool) -> np.ndarray:
    """Return a PNG or JPEG as greyscale float32 [height * width], row by row, black 0 and white `max_value`.

    It is resized to `size` (height, width), ignoring its aspect ratio. `invert` swaps black and white. Transparent
    pixels become the background, 0. Raises DataError if the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                grey = _grey(image, white_is_background=invert)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path}: cannot be read as a PNG or JPEG ({in_one_line(error)}); correct it, or take it away"
        ) from None
    height, width = size
    shrinks = grey.height >= height and grey.width >= width
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR  # the mean of the pixels that become one
    pixels = np.asarray(grey.resize((width, height), how), dtype=np.float32) / 255
    return (1 - pixels if invert else pixels).reshape(-1) * np.float32(max_value)


def _grey(image: Image.Image, *, white_is_background: bool) -> Image.Image:
    """Return an image as upright 8-bit greyscale."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        values = np.asarray(image, dtype=np.float64) / _WIDE * 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        shade = 255 if white_is_background else 0
        background = Image.new("RGBA", coloured.size, (shade, shade, shade, 255))
        upright = Image.alpha_composite(background, coloured)
    return upright.convert("L")
