"""The pictures of a run, as SVG: its learning curves, and what its worker left to draw (besom.training.figure_data).

They are put together as text: a plotting library takes fifty times as long for the same few lines and numbers, which
is more than everything else that is recorded of a trial. SVG reads well at any size, and its text stays text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from besom.tracking.figures.confusion import confusion_matrix
from besom.tracking.figures.curves import History, learning_curves
from besom.tracking.figures.mistakes import mistakes
from besom.tracking.figures.predictions import predictions
from besom.tracking.figures.weights import weight_pictures

__all__ = ["confusion_matrix", "draw", "learning_curves", "mistakes", "predictions", "weight_pictures"]

_DRAWN: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "confusion.json": ("confusion_matrix.svg", lambda table: confusion_matrix(table["classes"], table["counts"])),
    "mistakes.json": ("mistakes.svg", mistakes),
    "weights.json": ("weights.svg", weight_pictures),
    "predictions.json": ("predictions.svg", predictions),
}


def draw(history: History, directory: Path) -> None:
    """Draw into `directory` what the history and the files there allow."""
    if len(history) > 1:
        (directory / "learning_curves.svg").write_text(learning_curves(history), encoding="utf-8")
    for name, (figure, drawn) in _DRAWN.items():
        if (directory / name).exists():
            table = json.loads((directory / name).read_text(encoding="utf-8"))
            (directory / figure).write_text(drawn(table), encoding="utf-8")
