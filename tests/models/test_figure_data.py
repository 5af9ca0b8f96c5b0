"""The figure data that a worker writes, and the figures that are drawn from it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.data import InMemoryDataModule, Source
from besom.data.sources import breast_cancer, diabetes, digits
from besom.models.saved import SavedModel, load
from besom.tracking.figures import draw
from besom.training.figure_data import (
    CONFUSION,
    MISTAKES,
    PREDICTIONS,
    WEIGHTS,
    Predictions,
    confusion,
    mistakes,
    pairs,
)
from besom.training.fit import build_data
from besom.training.folds import train_trial
from besom.training.progress import Moment

SMALL = ("threads=1", "trainer.max_epochs=2", "optimizer.lr=0.02")
DIGITS = (*SMALL, "model=logistic_regression", "data.limit=400", "data.scaling=standard")


class Silence:
    """A channel that drops every report and never asks to stop."""

    def started(self, about: Mapping[str, Any]) -> None: ...

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None: ...

    def log(self, log: object) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        return False


class Left:
    """The files of a trial's folder."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.config = config
        self.folder = folder
        train_trial(config, channel=Silence(), directory=folder)

    def table(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.glob("*.json")} - {"model.json"}

    @property
    def model(self) -> SavedModel:
        return load(self.folder, self.config["model"])

    @property
    def source(self) -> Source:
        data = build_data(self.config)
        assert isinstance(data, InMemoryDataModule)
        return data.source


Trained = Callable[..., Left]


@pytest.fixture(scope="module")
def trained(compose: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains each config once for all tests."""
    left: dict[tuple[str, ...], Left] = {}

    def train(*overrides: str) -> Left:
        if overrides not in left:
            left[overrides] = Left(resolved(compose(*overrides)), tmp_path_factory.mktemp("left"))
        return left[overrides]

    return train


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (DIGITS, {CONFUSION}),
        ((*DIGITS, "test=true"), {CONFUSION, MISTAKES, WEIGHTS}),
        ((*DIGITS, "figures=all"), {CONFUSION, MISTAKES, WEIGHTS}),
        ((*DIGITS, "figures=none", "test=true"), set()),
        ((*DIGITS, "figures=all", "data.val_fraction=0", "objective=train/loss"), {WEIGHTS}),
        ((*DIGITS, "figures=all", "model=mlp_classifier"), {CONFUSION, MISTAKES}),
        ((*SMALL, "figures=all", "data=breast_cancer"), {CONFUSION}),
        ((*SMALL, "data=diabetes", "model=linear_regression"), set()),
        ((*SMALL, "figures=all", "data=diabetes", "model=linear_regression"), {PREDICTIONS}),
    ],
)
def test_a_trial_leaves_what_its_figures_need_and_no_more(
    trained: Trained, overrides: tuple[str, ...], names: set[str]
):
    assert trained(*overrides).names == names


def test_mistakes_are_those_that_the_model_makes_and_is_surest_of(trained: Trained):
    left = trained(*DIGITS, "figures=all")
    table, source, model = left.table(MISTAKES), left.source, left.model
    shown = table["mistakes"]
    assert table["size"] == [8, 8]
    assert table["rows"] == 80
    assert 0 < len(shown) == min(25, table["total"])
    said = model.predict(source.x[[one["row"] for one in shown]])
    for one, probabilities in zip(shown, said, strict=True):
        assert one["predicted"] == source.class_names[int(probabilities.argmax())]
        assert one["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert one["true"] == source.class_names[int(source.y[one["row"]])] != one["predicted"]
        assert list(b64decode(one["pixels"])) == (source.x[one["row"]] * 255 / 16).round().int().tolist()
    probabilities = [one["probability"] for one in shown]
    assert probabilities == sorted(probabilities, reverse=True)
    counts = torch.tensor(left.table(CONFUSION)["counts"])
    assert int(counts.sum() - counts.trace()) == table["total"]


def test_weights_are_those_of_the_layer_output_by_output(trained: Trained):
    left = trained(*DIGITS, "figures=all")
    table = left.table(WEIGHTS)
    assert table["outputs"] == [str(digit) for digit in range(10)]
    (layer,) = left.model.module.network.linears
    torch.testing.assert_close(torch.tensor(table["weights"]), layer.weight.detach(), rtol=1e-3, atol=0)


def test_predictions_are_the_models_on_the_validation_part(trained: Trained):
    left = trained(*SMALL, "figures=all", "data=diabetes", "model=linear_regression")
    table = left.table(PREDICTIONS)
    data = build_data(left.config)
    assert isinstance(data, InMemoryDataModule)
    assert table["true"] == data.source.y[data.val_rows].tolist()
    said = left.model.predict(data.source.x[data.val_rows])
    assert table["predicted"] == pytest.approx(said.tolist(), rel=1e-4)
    assert table["rows"] == len(table["true"]) == 88


def test_by_folds_every_row_is_judged_once_by_a_model_that_has_not_learned_from_it(trained: Trained):
    left = trained(*DIGITS, "figures=all", "evaluation.folds=4")
    assert left.names == {CONFUSION, MISTAKES, WEIGHTS}
    counts = torch.tensor(left.table(CONFUSION)["counts"])
    data = build_data(left.config)
    assert isinstance(data, InMemoryDataModule)
    rest = data.folded(4)
    assert int(counts.sum()) == rest.sizes["train"] == left.table(MISTAKES)["rows"]
    rows = torch.cat([data.folded(4, held_out=number).val_rows for number in range(4)])
    assert torch.equal(counts.sum(dim=1), data.source.y[rows].bincount(minlength=10))
    assert {one["row"] for one in left.table(MISTAKES)["mistakes"]} <= set(rows.tolist())


def test_everything_that_is_left_can_be_drawn(trained: Trained, tmp_path: Path):
    for overrides in ((*DIGITS, "figures=all"), (*SMALL, "figures=all", "data=diabetes", "model=linear_regression")):
        for path in trained(*overrides).folder.glob("*.json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    draw([], tmp_path)
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "confusion_matrix.svg", "mistakes.svg", "weights.svg", "predictions.svg",
    }  # fmt: skip


# Without training.


def predictions(source: Source, values: torch.Tensor) -> Predictions:
    return Predictions(values=values, targets=source.y[: len(values)], rows=torch.arange(len(values)))


def test_who_makes_no_mistake_has_none_to_show():
    source = digits()
    table = mistakes(source, predictions(source, torch.eye(10)[source.y[:50]]))
    assert (table["total"], table["rows"], table["mistakes"]) == (0, 50, [])


def test_two_classes_are_counted_by_the_one_that_is_more_probable():
    source = breast_cancer()
    said = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).repeat(100, 1)
    counts = torch.tensor(confusion(source, predictions(source, said))["counts"])
    assert counts.sum(dim=0).tolist() == [100, 100]
    assert counts.sum(dim=1).tolist() == source.y[:200].bincount().tolist()


def test_of_many_predictions_some_are_kept_from_the_first_to_the_last():
    source = diabetes()
    y = torch.arange(5000.0)
    table = pairs(Predictions(values=y + 1, targets=y, rows=y.long()))
    assert (table["true"][0], table["true"][-1]) == (0, 4999)
    assert len(set(table["true"])) == 2000
    assert table["rows"] == 5000
    assert len(pairs(predictions(source, source.y))["true"]) == 442
