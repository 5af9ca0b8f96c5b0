"""The pictures of a run: its learning curves and, for a classifier, its confusion matrix, as SVG.

They are put together as text: a plotting library takes fifty times as long for the same few lines and numbers, which
is more than everything else that is recorded of a trial. SVG reads well at any size, and its text stays text.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from besom.tracking.svg import Panel, line, shown
from besom.tracking.ticks import axis_of

History = Sequence[tuple[int, Mapping[str, float]]]

_FONT = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif"
_LINES = {"train": ("#7f7f7f", ' stroke-dasharray="5.55 2.4"', "╌╌"), "val": ("#1f77b4", "", "──")}

_SHORT = 3  # letters of a class name that need not be turned to fit below its column
_NUMBERED = 20  # classes; a larger matrix has no room for numbers
_SIDE = 232.8
# ColorBrewer's Blues, from none to the highest count.
_BLUES = ("f7fbff", "deebf7", "c6dbef", "9ecae1", "6baed6", "4292c6", "2171b5", "08519c", "08306b")
_SHADES = 64


def draw(history: History, directory: Path) -> None:
    """Draw into `directory` what the history and the files there allow."""
    if len(history) > 1:
        (directory / "learning_curves.svg").write_text(learning_curves(history), encoding="utf-8")
    confusion = directory / "confusion.json"
    if confusion.exists():
        table = json.loads(confusion.read_text(encoding="utf-8"))
        text = confusion_matrix([str(name) for name in table["classes"]], table["counts"])
        (directory / "confusion_matrix.svg").write_text(text, encoding="utf-8")


# Learning curves: a panel per metric, train and validation over epochs.


def learning_curves(history: History) -> str:
    """Return the picture of a history: the loss, and the accuracy or the absolute error if there is one."""
    names = {name.partition("/")[2] for _, metrics in history for name in metrics}
    metrics = ("loss", *[name for name in ("acc", "mae") if name in names][:1])
    panels = [
        _curves(Panel(left=54.43 + 299.04 * place, top=8.64, width=239.23, height=172.8), history, name)
        for place, name in enumerate(metrics)
    ]
    return _picture(299.04 * len(metrics) + 6.72, 216, "".join(panels))


def _curves(panel: Panel, history: History, metric: str) -> str:
    lines = {
        part: [
            (epoch, float(metrics[f"{part}/{metric}"])) for epoch, metrics in history if f"{part}/{metric}" in metrics
        ]
        for part in _LINES
    }
    epochs = axis_of([epoch for epoch, _ in history], whole=True)
    values = axis_of([value for points in lines.values() for _, value in points])
    parts = [
        f'<path d="M{panel.left:.2f} {panel.top:.2f}V{panel.bottom:.2f}H{panel.left + panel.width:.2f}" '
        'fill="none" stroke="#000" stroke-width="0.8"/>'
    ]
    for tick, text in epochs.ticks:
        parts.append(_text(panel.x(epochs, tick), panel.bottom + 14.6, text))
    for tick, text in values.ticks:
        parts.append(_text(panel.left - 7, panel.y(values, tick) + 3.6, text, anchor="end"))
    parts.append(_text(panel.left + panel.width / 2, panel.bottom + 30, "epoch"))
    parts.append(_text(panel.left - 36, panel.top + panel.height / 2, metric, turn=-90))
    for row, (part, (color, dashes, sample)) in enumerate(_LINES.items()):
        path = line([(panel.x(epochs, x), panel.y(values, y)) for x, y in lines[part]])
        if path:
            parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashes}/>')
        # Named in the corner that such curves leave free.
        height = (0.15 if metric == "acc" else 0.93) - 0.09 * row
        where = (panel.left + 0.97 * panel.width, panel.bottom - height * panel.height + 3)
        parts.append(_text(*where, f"{part} {sample}", anchor="end", color=color))
    return "".join(parts)


# Confusion: a row per true class, a column per predicted one, counts on the validation part.


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return the picture of the counts, row by row."""
    left, top, size = 85.64, 9.07, len(classes)
    cell, high = _SIDE / size, max(map(max, counts))
    cells: dict[int, list[str]] = defaultdict(list)  # of one shade: a large matrix has few
    parts = [f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="#{_BLUES[0]}"/>']
    numbers = []
    for row, in_row in enumerate(counts):
        for column, count in enumerate(in_row):
            if not count:
                continue
            x, y = left + column * cell, top + row * cell
            cells[round(count / high * _SHADES)].append(f"M{x:.2f} {y:.2f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z")
            if size <= _NUMBERED:
                color = "#fff" if count > high / 2 else "#000"
                numbers.append(_text(x + cell / 2, y + cell / 2 + 2.5, str(count), color=color, points=7))
    for shade, squares in sorted(cells.items()):
        parts.append(f'<path d="{"".join(squares)}" fill="{_blue(shade / _SHADES)}" shape-rendering="crispEdges"/>')
    parts += numbers
    parts.append(
        f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#000" stroke-width="0.8"/>'
    )
    named: Sequence[tuple[float, str]] = list(enumerate(classes))
    if size > _NUMBERED:
        named = axis_of([0, size - 1], whole=True).ticks  # by number
    turn = -45 if max(len(text) for _, text in named) > _SHORT else 0
    for place, text in named:
        middle = (place + 0.5) * cell
        anchor = "end" if turn else "middle"
        parts.append(_text(left + middle, top + _SIDE + 12, text, turn=turn, anchor=anchor, points=7))
        parts.append(_text(left - 7, top + middle + 2.5, text, anchor="end", points=7))
    parts.append(_text(left + _SIDE / 2, top + _SIDE + 54, "predicted"))
    parts.append(_text(17, top + _SIDE / 2, "true", turn=-90))
    return _picture(331.2, 302.4, "".join(parts))


def _blue(share: float) -> str:
    """The color of a count, as a share of the highest."""
    place = share * (len(_BLUES) - 1)
    below = min(int(place), len(_BLUES) - 2)
    low, high = (bytes.fromhex(_BLUES[index]) for index in (below, below + 1))
    mixed = bytes(round(one + (other - one) * (place - below)) for one, other in zip(low, high, strict=True))
    return f"#{mixed.hex()}"


# SVG.


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", color: str = "#000", turn: int = 0, points: int = 10
) -> str:
    more = f' transform="rotate({turn} {x:.2f} {y:.2f})"' if turn else ""
    more += f' fill="{color}"' if color != "#000" else ""
    more += f' font-size="{points}"' if points != 10 else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{more}>{shown(text)}</text>'


def _picture(width: float, height: float, content: str) -> str:
    """A picture of a size in points."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.2f}pt" height="{height:.2f}pt" '
        f'viewBox="0 0 {width:.2f} {height:.2f}" font-family="{_FONT}" font-size="10" stroke-linejoin="round">'
        f'<rect width="100%" height="100%" fill="#fff"/>{content}</svg>\n'
    )
