"""The figures of a run, as SVG: learning curves, and plots of the data from its worker (besom.training.figure_data).

They are written as text: a plotting library takes fifty times as long for the same few lines and numbers, longer than
everything else that is recorded of a trial. SVG is sharp at any size, and its text stays text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from besom.config.units import Unit
from besom.tracking.figures.confusion import confusion_matrix
from besom.tracking.figures.curves import History, learning_curves
from besom.tracking.figures.lr_find import lr_curve
from besom.tracking.figures.mistakes import mistakes
from besom.tracking.figures.predictions import predictions
from besom.tracking.figures.weights import weight_pictures

__all__ = ["confusion_matrix", "draw", "learning_curves", "lr_curve", "mistakes", "predictions", "weight_pictures"]

_FIGURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "confusion.json": ("confusion_matrix.svg", lambda table: confusion_matrix(table["classes"], table["counts"])),
    "mistakes.json": ("mistakes.svg", mistakes),
    "weights.json": ("weights.svg", weight_pictures),
    "predictions.json": ("predictions.svg", predictions),
    "lr_find.json": ("lr_find.svg", lr_curve),
}


def draw(history: History, directory: Path, *, axis: Unit = Unit.EPOCH) -> None:
    """Write the figures of a history by this axis and of the data files in `directory` into that directory."""
    if len(history) > 1:
        (directory / "learning_curves.svg").write_text(learning_curves(history, axis), encoding="utf-8")
    for name, (figure, plot) in _FIGURES.items():
        if (directory / name).exists():
            table = json.loads((directory / name).read_text(encoding="utf-8"))
            (directory / figure).write_text(plot(table), encoding="utf-8")
