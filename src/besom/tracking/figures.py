"""The pictures of a run: its learning curves and, for a classifier, its confusion matrix, as SVG.

SVG because it is drawn in half the time of a PNG and reads well at any size. An `Artist` keeps its figures and
puts new numbers into them: making the axes anew for each run would cost more than everything else that is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

History = Sequence[tuple[int, Mapping[str, float]]]

_SHORT = 3  # letters of a class name that need not be turned to fit below its column
_NUMBERED = 20  # classes; a larger matrix has no room for numbers
_STYLES = {"train": ("--", "tab:gray"), "val": ("-", "tab:blue")}
_DASHES = {"--": "╌╌", "-": "──"}


class Artist:
    """Draws the figures of one run after another; not to be shared between threads."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, ...], LearningCurves] = {}
        self._matrices: dict[tuple[str, ...], ConfusionMatrix] = {}

    def draw(self, history: History, directory: Path) -> None:
        """Draw into `directory` what the history and the files there allow."""
        if len(history) > 1:
            names = {name.partition("/")[2] for _, metrics in history for name in metrics}
            panels = ("loss", *[name for name in ("acc", "mae") if name in names][:1])
            if panels not in self._curves:
                self._curves[panels] = LearningCurves(panels)
            _save(self._curves[panels].show(history), directory / "learning_curves.svg")
        confusion = directory / "confusion.json"
        if confusion.exists():
            table = json.loads(confusion.read_text(encoding="utf-8"))
            classes = tuple(str(name) for name in table["classes"])
            if classes not in self._matrices:
                self._matrices[classes] = ConfusionMatrix(classes)
            _save(self._matrices[classes].show(table["counts"]), directory / "confusion_matrix.svg")


class LearningCurves:
    """A panel per metric: train and validation over epochs."""

    def __init__(self, panels: Sequence[str]) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        self._figure = Figure(figsize=(4.2 * len(panels), 3.0))
        self._lines: dict[str, Line2D] = {}
        self._axes = self._figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(self._axes, panels, strict=True):
            for part, (style, color) in _STYLES.items():
                (self._lines[f"{part}/{panel}"],) = axes.plot([], [], style, color=color, label=part)
            axes.set_xlabel("epoch")
            axes.set_ylabel(panel)  # a title would be measured against every tick, each time
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(bottom=False, left=False)
            axes.spines[["top", "right"]].set_visible(False)
            _name_lines(axes, top=panel != "acc")
            _pin_labels(axes, x=-0.13, y=-0.14)
        self._figure.subplots_adjust(left=0.09, right=0.98, bottom=0.16, top=0.96, wspace=0.25)

    def show(self, history: History) -> Figure:
        """Return the figure with this history in it; valid until the next call."""
        for name, line in self._lines.items():
            points = [(epoch, metrics[name]) for epoch, metrics in history if name in metrics]
            line.set_data([epoch for epoch, _ in points], [value for _, value in points])
            line.set_visible(bool(points))
        for axes in self._axes:
            axes.relim(visible_only=True)
            axes.autoscale_view()
        return self._figure


class ConfusionMatrix:
    """Counts on the validation part: a row per true class, a column per predicted one."""

    def __init__(self, classes: Sequence[str]) -> None:
        from matplotlib.figure import Figure

        size = len(classes)
        self._figure = Figure(figsize=(4.6, 4.2))
        axes = self._figure.subplots()
        self._image: AxesImage = axes.imshow([[0] * size] * size, cmap="Blues", vmin=0)
        self._numbers: list[list[Text]] = []
        if size <= _NUMBERED:
            self._numbers = [
                [axes.text(column, row, "", ha="center", va="center", fontsize=7) for column in range(size)]
                for row in range(size)
            ]
            axes.set_xticks(range(size), classes, fontsize=7)
            if max(map(len, classes)) > _SHORT:
                axes.tick_params("x", rotation=45)
                for label in axes.get_xticklabels():
                    label.set_horizontalalignment("right")
            axes.set_yticks(range(size), classes, fontsize=7)
        axes.tick_params(bottom=False, left=False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        _pin_labels(axes, x=-0.2, y=-0.28)
        self._figure.subplots_adjust(left=0.24, right=0.98, bottom=0.2, top=0.97)

    def show(self, counts: Sequence[Sequence[int]]) -> Figure:
        """Return the figure with these counts in it; valid until the next call."""
        high = max(max(row) for row in counts)
        self._image.set_data(counts)
        self._image.set_clim(0, high)
        for texts, row in zip(self._numbers, counts, strict=False):
            for text, count in zip(texts, row, strict=True):
                text.set_text(str(count) if count else "")
                text.set_color("white" if count > high / 2 else "black")
        return self._figure


def _name_lines(axes: Axes, *, top: bool) -> None:
    """Name the lines in a corner that they leave free: a legend would cost as much as the lines."""
    for row, (part, (style, color)) in enumerate(_STYLES.items()):
        height = (0.93 if top else 0.15) - 0.09 * row
        axes.text(
            0.97, height, f"{part} {_DASHES[style]}", color=color, ha="right", va="center", transform=axes.transAxes
        )


def _pin_labels(axes: Axes, *, x: float, y: float) -> None:
    """Fix where the axes' labels stand: otherwise every tick is measured, on every draw, to find a place."""
    axes.xaxis.set_label_coords(0.5, x)
    axes.yaxis.set_label_coords(y, 0.5)


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "besom"}):  # text stays text, and files repeat
        figure.savefig(path, format="svg", metadata={"Date": None})
