from __future__ import annotations

import io
import math
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from besom.config.units import Unit
from besom.svg.axis import axis_of, log_axis_of
from besom.svg.marks import image
from besom.tracking.figures import (
    confusion_matrix,
    draw,
    learning_curves,
    lr_curve,
    mistakes,
    predictions,
    weight_pictures,
)

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [
    (epoch, {"train/loss": 2.0 - epoch, "val/loss": 2.5 - epoch, "train/acc": 0.5, "val/acc": 0.25 * epoch})
    for epoch in range(3)
]


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def lines(picture: str, color: str) -> list[str]:
    """The paths of that color."""
    return [
        path.attrib["d"] for path in ElementTree.fromstring(picture).iter(f"{SVG}path") if color in path.attrib.values()
    ]


def values_of(history: Sequence[tuple[int, Mapping[str, float]]]) -> str:
    (validation,) = lines(learning_curves(history), "#1f77b4")
    return re.sub(r"[\d. ]+", "", validation)


def test_a_classifier_has_a_panel_for_the_loss_and_one_for_the_accuracy():
    picture = learning_curves(CURVES)
    assert texts(picture).count("epoch") == 2
    assert {"loss", "acc", "train ╌╌", "val ──"} <= set(texts(picture))
    assert len(lines(picture, "#1f77b4")) == len(lines(picture, "#7f7f7f")) == 2


def test_a_regression_has_the_absolute_error_and_other_models_the_loss_alone():
    mae = [(epoch, {"val/loss": 1.0, "val/mae": 2.0}) for epoch in range(2)]
    assert {"loss", "mae"} <= set(texts(learning_curves(mae)))
    loss = [(epoch, {"val/loss": 1.0}) for epoch in range(2)]
    assert texts(learning_curves(loss)).count("epoch") == 1


def test_a_lower_value_is_drawn_lower():
    (validation, _) = lines(learning_curves(CURVES), "#1f77b4")
    heights = [float(point.split()[1]) for point in re.split("[ML]", validation)[1:]]
    assert heights == sorted(heights)  # downwards, and the loss falls
    assert heights[0] < heights[-1]


def test_what_is_not_finite_leaves_a_gap():
    for missing in (math.nan, math.inf, -math.inf):
        history = [(epoch, {"val/loss": loss}) for epoch, loss in enumerate([3.0, 2.0, missing, 1.5, 1.0])]
        assert values_of(history) == "MLML"


def test_training_that_never_gave_a_number_is_drawn_without_lines():
    picture = learning_curves([(epoch, {"train/loss": math.nan, "val/loss": math.nan}) for epoch in range(3)])
    assert not lines(picture, "#1f77b4")
    assert "loss" in texts(picture)


@pytest.mark.parametrize("classes", [list("abc"), ["T-shirt/top", "<&>", "größe\x00"]])
def test_a_matrix_names_its_classes_and_numbers_its_cells(classes: list[str]):
    picture = confusion_matrix(classes, [[50, 1, 0], [0, 40, 2], [3, 0, 30]])
    shown = [name.replace("\x00", "�") for name in classes]
    assert sorted(texts(picture)) == sorted(["50", "1", "40", "2", "3", "30", *shown, *shown, "predicted", "true"])
    (darkest,) = lines(picture, "#08306b")
    assert darkest.count("M") == 1


def test_a_large_matrix_is_numbered_at_its_edges_and_stays_small():
    size = 300
    counts = [[50 if row == column else int((row * column) % 97 == 1) for column in range(size)] for row in range(size)]
    picture = confusion_matrix([f"class {number}" for number in range(size)], counts)
    assert set(texts(picture)) == {"0", "100", "200", "300", "predicted", "true"}
    assert len(picture) < 100_000


def test_a_matrix_of_nothing_is_drawn():
    assert sorted(texts(confusion_matrix(["a", "b"], [[0, 0], [0, 0]]))) == ["a", "a", "b", "b", "predicted", "true"]


def images(picture: str) -> list[Image.Image]:
    sources = [element.attrib["href"] for element in ElementTree.fromstring(picture).iter(f"{SVG}image")]
    return [Image.open(io.BytesIO(b64decode(source.removeprefix("data:image/png;base64,")))) for source in sources]


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,)]), st.data())
def test_pixels_are_a_png_as_others_read_it(columns: int, rows: int, colors: tuple[int, ...], data: st.DataObject):
    shape = (rows, columns, *colors)
    pixels = data.draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    element = image(0, 0, 10, 10, np.frombuffer(pixels, np.uint8).reshape(shape))
    (read,) = images(f'<svg xmlns="{SVG[1:-1]}">{element}</svg>')
    assert (read.mode, read.size) == ("RGB" if colors else "L", (columns, rows))
    assert read.tobytes() == pixels


def test_each_mistake_is_shown_with_what_it_was_taken_for_and_what_it_is():
    wrong = {"row": 3, "true": "<coat>", "predicted": "trousers of all kinds", "probability": 0.987}
    table = {"size": [2, 3], "rows": 12000, "total": 1767, "mistakes": [{**wrong, "pixels": "AP8A/wD/"}] * 7}
    picture = mistakes(table)
    assert texts(picture) == [
        "the 7 most confident of 1,767 mistakes on 12,000 validation rows",
        *["as trousers of…, 98.7 %", "is <coat>"] * 7,
    ]
    assert [read.tobytes() for read in images(picture)] == [bytes([0, 255, 0, 255, 0, 255])] * 7
    assert images(picture)[0].size == (3, 2)


def test_a_classifier_without_a_mistake_is_told_so():
    (told,) = texts(mistakes({"size": [8, 8], "rows": 50, "total": 0, "mistakes": []}))
    assert told == "no mistakes on 50 validation rows"


def test_weights_have_one_scale_with_nothing_at_zero():
    table = {"size": [1, 3], "outputs": ["a", "b"], "weights": [[2.0, 0.0, -2.0], [1.0, -1.0, 0.5]]}
    picture = weight_pictures(table)
    first, second, scale = images(picture)
    most, none, least = (first.getpixel((place, 0)) for place in range(3))
    assert none == (0xF7, 0xF7, 0xF7)
    assert (most, least) == ((0x05, 0x30, 0x61), (0x67, 0x00, 0x1F))
    assert second.getpixel((0, 0)) not in (most, none)
    assert (scale.getpixel((0, 0)), scale.getpixel((0, scale.height - 1))) == (most, least)
    assert {"a", "b", "2", "0", "-2"} <= set(texts(picture))


def test_weights_of_nothing_are_drawn():
    (only, _) = images(weight_pictures({"size": [1, 2], "outputs": ["a"], "weights": [[0.0, 0.0]]}))
    assert only.tobytes() == bytes([0xF7] * 6)


def test_predictions_are_dots_over_the_truth_and_residuals_over_predictions():
    picture = predictions({"true": [1.0, 2.0, 3.0], "predicted": [1.5, math.inf, 2.5], "rows": 3})
    over_truth, over_predictions = lines(picture, "#1f77b4")
    assert over_truth.count("M") == over_predictions.count("M") == 2
    low, high = (float(point.split()[1].removesuffix("h0")) for point in re.split("M", over_predictions)[1:])
    assert low > high  # 1.0 - 1.5 is below 3.0 - 2.5, and y goes downwards
    assert len(lines(picture, "#7f7f7f")) == 2
    assert {"true", "predicted", "residual: true - predicted"} <= set(texts(picture))
    assert not any("rows" in text for text in texts(picture))


def test_it_is_told_when_not_all_predictions_are_shown():
    assert "2 of 5,000 rows" in texts(predictions({"true": [1.0, 2.0], "predicted": [1.0, 2.0], "rows": 5000}))


def test_folds_are_dots_and_their_means_so_far_lines():
    history = [
        (fold, {"val/loss": 1.0, "train/loss": 0.5, "fold/val/loss": 0.9 + fold / 10, "fold/best_epoch": 3.0})
        for fold in range(1, 4)
    ]
    picture = learning_curves(history, Unit.FOLD)
    assert {"fold", "val, mean so far ──"} <= set(texts(picture))
    counts = sorted(path.count("M") for path in lines(picture, "#1f77b4"))
    assert counts == [1, 3]


def test_a_search_for_a_learning_rate_is_a_curve_over_its_logarithm_with_a_line_at_what_was_found():
    picture = lr_curve({"lr": [1e-4, 1e-3, 1e-2, 1e-1], "loss": [2.0, 1.5, 1.0], "found": 1e-3})  # stopped early
    assert {"learning rate", "train/loss, smoothed", "found: 0.001"} <= set(texts(picture))
    (curve,), (line,) = (lines(picture, color) for color in ("#1f77b4", "#7f7f7f"))
    x = [float(point.split()[0]) for point in re.split("[ML]", curve)[1:]]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0])
    assert float(line[1:].split()[0]) == x[1]


def test_what_is_there_is_drawn_and_again_the_same(tmp_path: Path):
    draw(CURVES[:1], tmp_path)
    assert list(tmp_path.iterdir()) == []  # a point is no curve
    (tmp_path / "confusion.json").write_text('{"classes": ["a", "b"], "counts": [[3, 1], [0, 4]]}')
    drawn = []
    for _ in range(2):
        draw(CURVES, tmp_path)
        drawn.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert drawn[0] == drawn[1]
    assert drawn[0].keys() == {"confusion.json", "confusion_matrix.svg", "learning_curves.svg"}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ([0.98, 0.991], ["0.980", "0.985", "0.990"]),
        ([-0.3, 0.1], ["-0.3", "-0.2", "-0.1", "0.0", "0.1"]),
        ([1.0, 1.0], ["0.95", "1.00", "1.05"]),
        ([2e6, 2e6 + 10], ["2000000", "2000002.5", "2000005", "2000007.5", "2000010"]),
        ([1e-9, 3e-9], ["1e-09", "1.5e-09", "2e-09", "2.5e-09", "3e-09"]),
        ([math.nan, 1.0, math.inf], ["0.95", "1.00", "1.05"]),
        ([], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
    ],
)
def test_ticks_stand_at_round_numbers_that_differ(values: list[float], labels: list[str]):
    assert [label for _, label in axis_of(values).ticks] == labels


@pytest.mark.parametrize(
    ("last", "labels"),
    [
        (1, "0 1"),
        (3, "0 1 2 3"),
        (7, "0 2 4 6"),
        (20, "0 5 10 15 20"),
        (99, "0 25 50 75 100"),
        (3000, "0 1000 2000 3000"),
    ],
)
def test_epochs_are_ticked_at_whole_numbers(last: int, labels: str):
    assert [label for _, label in axis_of(range(last + 1), whole=True).ticks] == labels.split()


@given(st.lists(st.floats(), max_size=5), st.booleans())
def test_any_values_have_an_axis_with_room_for_them(values: list[float], whole: bool):
    axis = axis_of(values, whole=whole)
    assert axis.low < axis.high
    assert len(axis.ticks) <= 7
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)
    assert all(axis.low <= tick <= axis.high for tick, _ in axis.ticks)
    assert all(0 <= axis.share(value) <= 1 for value in values if abs(value) < 1e150)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1e-3, 0.09], ["0.001", "0.01", "0.1"]),
        ([1e-9, 1e3], ["1e-09", "1e-06", "0.001", "1", "1000"]),
        ([0.6, 7.0], ["1", "2", "5"]),
        ([3.0, 4.0], ["3.00", "3.25", "3.50", "3.75", "4.00"]),
        ([], ["0.1", "1", "10"]),
    ],
)
def test_an_axis_of_logarithms_is_ticked_at_powers_of_ten_or_between_two(values: list[float], labels: list[str]):
    assert [label for _, label in log_axis_of(values).ticks] == labels


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5))
@example([1.7e260, 9.5e-49])  # whose ratio is no finite number
@example([1.17e15, 2.703e16])  # a single power of ten between them, more than 1.5 of them apart
def test_any_values_have_an_axis_of_logarithms(values: list[float]):
    axis = log_axis_of(values)
    assert 0 < axis.low < axis.high < math.inf
    assert all(axis.low <= tick <= axis.high for tick, _ in axis.ticks)
    for value in values:
        assert math.isnan(axis.share(value)) or 0 <= axis.share(value) <= 1
