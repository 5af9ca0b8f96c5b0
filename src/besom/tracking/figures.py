"""The pictures of a run: its learning curves and, for a classifier, its confusion matrix, as SVG.

SVG because it is drawn in half the time of a PNG and reads well at any size; text stays text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEGEND_MAX = 20  # classes; a larger matrix has no room for numbers


def draw(history: Sequence[tuple[int, Mapping[str, float]]], directory: Path) -> None:
    """Draw into `directory` what the history and the files there allow."""
    if len(history) > 1:
        _save(learning_curves(history), directory / "learning_curves.svg")
    confusion = directory / "confusion.json"
    if confusion.exists():
        table = json.loads(confusion.read_text(encoding="utf-8"))
        _save(confusion_matrix(table["classes"], table["counts"]), directory / "confusion_matrix.svg")


def learning_curves(history: Sequence[tuple[int, Mapping[str, float]]]) -> Figure:
    """One panel for the loss and one for the first other metric, train and validation over epochs."""
    from matplotlib.figure import Figure

    names = {name.partition("/")[2] for _, metrics in history for name in metrics} - {"loss", "lr"}
    panels = ["loss", *[name for name in ("acc", "mae") if name in names][:1]]
    figure = Figure(figsize=(4.2 * len(panels), 3.2))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for part, style in (("train", "--"), ("val", "-")):
            points = [(epoch, m[f"{part}/{panel}"]) for epoch, m in history if f"{part}/{panel}" in m]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    label=part,
                    color="tab:blue" if part == "val" else "tab:gray",
                )
        axes.set_xlabel("epoch")
        axes.set_title(panel)
        axes.legend(frameon=False)
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.17, top=0.88, wspace=0.25)
    return figure


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Counts on the validation part: a row per true class, a column per predicted one."""
    from matplotlib.figure import Figure

    size = len(classes)
    figure = Figure(figsize=(4.6, 4.2))
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    high = max(max(row) for row in counts)
    if size <= _LEGEND_MAX:
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                if count:
                    color = "white" if count > high / 2 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
        axes.set_xticks(range(size), [str(name) for name in classes], rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(size), [str(name) for name in classes], fontsize=7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.subplots_adjust(left=0.2, right=0.97, bottom=0.2, top=0.97)
    return figure


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "besom"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
