"""The files that a trial logs: images, texts and figures, in its folder, which become artifacts of its run."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from besom.config.extras.artifacts import is_own_file, leads_out
from besom.errors import ConfigError

_THUMBNAIL = (256, 256)
"""The size of the smaller copies, in pixels, which MLflow's page shows."""


class LoggedFiles:
    """Writes files into the folder `root`, by paths relative to it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, path: str, caller: str) -> Path:
        """Return where the file of a path goes, in a folder that exists.

        Raises ConfigError, naming the `caller`, for a path that leads out of the folder, or is that of a file which
        Besom itself records.
        """
        text = str(path)
        if leads_out(text) or not PurePosixPath(text).name:
            raise ConfigError(f"{caller}: '{text}' is no path within the run's artifacts; give such as plots/text.txt")
        if is_own_file(text):
            raise ConfigError(f"{caller}: {text} is the name of an artifact of Besom's own; take another")
        target = self._root / text
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def write_text(self, text: str, path: str, caller: str) -> None:
        """Write a text."""
        self.place(path, caller).write_text(text, encoding="utf-8")

    def copy(self, source: str | Path, folder: str | None, caller: str) -> None:
        """Copy a file, or all files of a folder, into a folder of the artifacts."""
        source, into = Path(source), PurePosixPath(folder or ".")
        if not source.exists():
            raise ConfigError(f"{caller}: {source}: no such file; give the path of one that is written")
        if source.is_file():
            shutil.copy2(source, self.place(str(into / source.name), caller))
        else:
            for file in sorted(path for path in source.rglob("*") if path.is_file()):
                shutil.copy2(file, self.place(str(into / file.relative_to(source).as_posix()), caller))

    def write_image(self, image: Image.Image, key: str, step: int, caller: str) -> None:
        """Write an image and a smaller copy of it, by the names that MLflow's page shows by key and step."""
        key = re.sub(r"[^\w\-./ ]", "_", key, flags=re.ASCII).replace("/", "#")
        # As MLflow, which does not let the last part begin with a hexadecimal digit.
        name = f"images/{key}%step%{step}%timestamp%{int(time.time() * 1000)}%x{str(uuid.uuid4())[1:]}"
        image.save(self.place(f"{name}.png", caller))
        small = image.copy()
        small.thumbnail(_THUMBNAIL)
        small.save(self.place(f"{name}%compressed.webp", caller))

    def write_figure(self, figure: Any, path: str, caller: str, options: Mapping[str, Any] | None = None) -> None:
        """Write a figure of Matplotlib, or of Plotly, as HTML or as an image by the suffix of the path."""
        writer = "savefig" if hasattr(figure, "savefig") else "write_image"
        if not hasattr(figure, writer):
            raise ConfigError(f"{caller}: {type(figure).__name__} is no figure; give one of Matplotlib or Plotly")
        if path.endswith(".html") and hasattr(figure, "write_html"):
            writer = "write_html"
        getattr(figure, writer)(self.place(path, caller), **(options or {}))


def as_image(value: Any, caller: str, form: str | None = None) -> Image.Image:
    """Return a picture as an image of Pillow: one of these, an array or a tensor.

    `form` names the dimensions of an array: HWC, CHW or HW; by default, tensors of one, three or four channels are CHW.
    Numbers with a fraction are from 0 to 1, whole ones from 0 to 255. Raises ConfigError, naming the `caller`.
    """
    if isinstance(value, Image.Image):
        return value
    if form is None and isinstance(value, torch.Tensor) and value.ndim == 3 and len(value) in (1, 3, 4):
        form = "CHW"
    array = value.detach().cpu().float().numpy() if _is_float(value) else np.asarray(_plain(value))
    if form is not None and sorted(form.upper()) == sorted("HWC"[: array.ndim]):
        array = array.transpose([form.upper().index(axis) for axis in "HWC"[: array.ndim]])
    elif form is not None:
        raise ConfigError(f"{caller}: {form} does not name the {array.ndim} dimensions of the image; give HWC or CHW")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.dtype.kind not in "fiub":
        shape = " x ".join(map(str, array.shape))
        raise ConfigError(f"{caller}: {shape} is no image; give [height, width] or [height, width, channels]")
    if array.dtype.kind in "fb":
        array = np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    to_pil = getattr(value, "to_pil", None)  # mlflow.Image
    return to_pil() if to_pil is not None else value
