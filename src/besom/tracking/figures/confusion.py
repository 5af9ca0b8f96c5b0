"""The confusion matrix on the validation data: a row per true class, a column per predicted class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from besom.svg.axis import axis_of
from besom.svg.marks import picture, text
from besom.tracking.figures.colors import BLUES, mixed

_SHORT = 3  # letters of a class name that fits below its column unrotated
_NUMBERED = 20  # classes; a larger matrix has no room for numbers
_SIDE = 232.8
_SHADES = 64


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return the figure of a confusion matrix; `counts` are row by row."""
    left, top, size = 85.64, 9.07, len(classes)
    cell, high = _SIDE / size, max(map(max, counts))
    cells: dict[int, list[str]] = defaultdict(list)  # by shade: a large matrix has few
    parts = [f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="#{BLUES[0]}"/>']
    numbers = []
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if not count:
                continue
            x, y = left + column * cell, top + row * cell
            cells[round(count / high * _SHADES)].append(f"M{x:.2f} {y:.2f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z")
            if size <= _NUMBERED:
                color = "#fff" if count > high / 2 else "#000"
                numbers.append(text(x + cell / 2, y + cell / 2 + 2.5, str(count), color=color, points=7))
    for shade, squares in sorted(cells.items()):
        color = f"#{mixed(BLUES, shade / _SHADES).hex()}"
        parts.append(f'<path d="{"".join(squares)}" fill="{color}" shape-rendering="crispEdges"/>')
    parts += numbers
    parts.append(
        f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#000" stroke-width="0.8"/>'
    )
    shown: Sequence[tuple[float, str]] = list(enumerate(classes))
    if size > _NUMBERED:
        shown = axis_of([0, size - 1], whole=True).ticks  # by number
    turn = -45 if max(len(name) for _, name in shown) > _SHORT else 0
    for place, name in shown:
        middle = (place + 0.5) * cell
        anchor = "end" if turn else "middle"
        parts.append(text(left + middle, top + _SIDE + 12, name, turn=turn, anchor=anchor, points=7))
        parts.append(text(left - 7, top + middle + 2.5, name, anchor="end", points=7))
    parts.append(text(left + _SIDE / 2, top + _SIDE + 54, "predicted"))
    parts.append(text(17, top + _SIDE / 2, "true", turn=-90))
    return picture(331.2, 302.4, "".join(parts))
