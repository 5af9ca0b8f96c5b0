"""A recorded model in use: `besom predict`, the registry, loaded by MLflow, served over HTTP."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig, OmegaConf
from packaging.version import Version
from PIL import Image

import besom
from besom.cli import main
from besom.config.checks import recordable, resolved
from besom.errors import ConfigError, DataError
from besom.serving import _load_pyfunc
from besom.tracking.places import settle
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.registry import register, signature_of
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.training.fit import train
from besom.training.progress import Moment
from tests.running import environment, free_port

pytestmark = pytest.mark.slow

TOWNS = {"bern": 3.0, "basel": 7.0, "chur": 1.0}
KINDS = ("dear", "cheap")


def houses(rows: int) -> pd.DataFrame:
    """A table with text, whole numbers, booleans, a price, and a class by the price."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "town": draw.choice(list(TOWNS), rows),
            "rooms": draw.integers(1, 9, rows),
            "garden": draw.choice([True, False], rows),
        }
    )
    frame["price"] = frame.town.map(TOWNS) + 10 * frame.rooms + 5 * frame.garden + draw.random(rows)
    return frame


@dataclass
class FakeChannel:
    """A fake channel of a trial: it keeps what the trial reports."""

    about: dict[str, Any] = field(default_factory=dict)
    epochs: list[Mapping[str, float]] = field(default_factory=list)

    def started(self, about: Mapping[str, Any]) -> None:
        self.about.update(about)

    def report(self, _moment: Moment, metrics: Mapping[str, float]) -> None:
        self.epochs.append(metrics)

    def log(self, log: object) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        return False


@dataclass(frozen=True)
class Lab:
    """A folder with runs in its mlruns/, by name."""

    folder: Path
    location: Location
    runs: dict[str, str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, _empty_store: Path, compose: Callable[..., DictConfig]) -> Lab:
    """Runs of a regression on houses, of their classes, and of digits; one that failed, and one without a spec."""
    folder = tmp_path_factory.mktemp("lab")
    location = Location.of({"uri": None, "directory": folder / "mlruns"})
    location.directory.mkdir()
    shutil.copy(_empty_store, location.database)
    settle(location.database)
    table = houses(120)
    table.to_csv(folder / "houses.csv", index=False)
    kinds = table.assign(kind=np.where(table.price > 50, *KINDS)).drop(columns="price")
    kinds.to_csv(folder / "kinds.csv", index=False)
    lab = Lab(folder, location, {})
    tables = {"houses": ("price", "mlp_regressor"), "kinds": ("kind", "logistic_regression")}
    with Recorder(location, "lab") as recorder:
        for name, (target, model) in tables.items():
            path = f"data.source.path={folder / name}.csv"
            config = compose("data=csv", path, f"data.source.target={target}", f"model={model}", "optimizer.lr=0.03",
                             "trainer.max_epochs=2")  # fmt: skip
            record(lab, recorder, name, config)
        record(lab, recorder, "digits", compose("data=digits", "model=logistic_regression", "trainer.max_epochs=2"))
        record(lab, recorder, "failed", compose(), Status.FAILED)
        record(lab, recorder, "own", compose(), Status.FINISHED, trained=False)
    return lab


def record(
    lab: Lab,
    recorder: Recorder,
    name: str,
    config: DictConfig,
    status: Status = Status.FINISHED,
    *,
    trained: bool | None = None,
) -> None:
    """Train a config here and record it, as a worker and its parent would do together."""
    directory = lab.folder / name
    directory.mkdir()
    told = FakeChannel({"device": "cpu", "versions": {}})
    if trained or (trained is None and status is Status.FINISHED):
        train({**resolved(config), "threads": 1}, channel=told, directory=directory)
    trial = len(lab.runs)
    tags = {"besom.version": besom.__version__, "besom.folder": "/somewhere"}
    recorder.start(trial, RunCard(name=name, config=recordable(config), tags=tags, directory=directory), told.about)
    for epoch, metrics in enumerate(told.epochs):
        recorder.report(trial, epoch, metrics, 1000.0)
    recorder.finish(trial, status)
    lab.runs[name] = recorder.run_id(trial)


@pytest.fixture(autouse=True)
def _in_the_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)


@pytest.fixture
def ask(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`besom predict` about a run of the lab, or a reference: its exit code and what it printed."""

    def predict(run: str, source: object, *flags: str) -> tuple[int, str, str]:
        code = main(["predict", lab.runs.get(run, run), str(source), *flags])
        return (code, *capsys.readouterr())

    return predict


Ask = Callable[..., tuple[int, str, str]]


def rows_of(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


# Tables.


def test_a_table_is_answered_row_by_row_and_scored_where_the_target_is_there(lab: Lab, ask: Ask):
    code, out, err = ask("houses", "houses.csv")
    answers, table = rows_of(out), houses(120)
    assert (code, list(answers.columns)) == (0, ["row", "prediction"])
    assert answers.row.tolist() == list(range(120))
    mse = ((answers.prediction - table.price) ** 2).mean()
    assert err == f"120 prediction(s); mse {mse:.6g} against column 'price' (120 rows)\n"


def test_the_command_says_what_load_model_says(lab: Lab, ask: Ask):
    model = besom.load_model(lab.runs["houses"], tracking_uri=lab.location.uri)
    assert model.feature_names == ("town=basel", "town=bern", "town=chur", "rooms", "garden")
    raw = torch.tensor([[0.0, 1.0, 0.0, 4.0, 1.0]])
    (lab.folder / "one.csv").write_text("garden,rooms,town\nTrue,4,bern\n", encoding="utf-8")
    _, out, _ = ask("houses", "one.csv")
    assert rows_of(out).prediction[0] == pytest.approx(float(model.predict(raw)[0]), rel=1e-6)


def test_a_run_on_a_table_tells_what_its_columns_were_taken_for(lab: Lab):
    tags = MlflowClient(lab.location.uri).get_run(lab.runs["houses"]).data.tags
    assert tags["besom.columns"] == (
        "columns: numbers rooms; booleans garden; categories town (3 values); target price (regression)"
    )


def test_classes_are_told_by_name_with_their_probabilities(lab: Lab, ask: Ask):
    code, out, err = ask("kinds", "kinds.csv", "--probabilities")
    answers = rows_of(out)
    assert code == 0
    assert list(answers.columns) == ["row", "prediction", "probability", "probability_cheap", "probability_dear"]
    both = answers[["probability_cheap", "probability_dear"]]
    assert both.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert (answers.probability == both.max(axis=1)).all()
    assert (answers.prediction == both.idxmax(axis=1).str.removeprefix("probability_")).all()
    accuracy = (answers.prediction == pd.read_csv("kinds.csv").kind).mean()
    assert f"accuracy {accuracy:.6g} against column 'kind' (120 rows)" in err


@pytest.mark.parametrize("name", ["new.csv", "new.tsv", "new.parquet", "-"])
def test_each_form_of_a_table_in_batches_of_any_size_gives_the_same(
    ask: Ask, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    table = houses(120)[:30][["garden", "price", "rooms", "town"]]
    path = tmp_path / name
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(table.to_csv(index=False).encode())))
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    expected = rows_of(ask("houses", "houses.csv")[1])[:30]
    code, out, _ = ask("houses", name if name == "-" else path, "--batch-size", "7")
    assert code == 0
    pd.testing.assert_frame_equal(rows_of(out), expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_answers_go_into_a_file_by_its_suffix_and_replace_what_it_held(ask: Ask, tmp_path: Path, suffix: str):
    output = tmp_path / f"out{suffix}"
    output.write_text("of yesterday", encoding="utf-8")
    code, out, err = ask("kinds", "kinds.csv", "-o", str(output), "--batch-size", "50", "--probabilities")
    assert (code, err) == (0, "")
    assert out.startswith(f"120 prediction(s) in {output}; accuracy ")
    expected = rows_of(ask("kinds", "kinds.csv", "--probabilities")[1])
    if suffix == ".npy":
        probabilities = np.load(output, allow_pickle=False)
        assert probabilities.shape == (120, 2)
        assert probabilities[:, 1] == pytest.approx(expected.probability_dear.to_numpy(), abs=1e-6)
    else:
        found = pd.read_csv(output) if suffix == ".csv" else pd.read_parquet(output)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_columns_that_are_not_read_are_named(ask: Ask, tmp_path: Path):
    houses(3).assign(note="x", owner="y").to_csv(tmp_path / "new.csv", index=False)
    code, _, err = ask("houses", tmp_path / "new.csv")
    assert code == 0
    assert "besom: warning: the model does not read the column(s) 'note', 'owner'\n" in err


def test_rows_of_a_class_that_is_new_count_as_wrong(ask: Ask, tmp_path: Path):
    pd.read_csv("kinds.csv")[:4].assign(kind="priceless").to_csv(tmp_path / "new.csv", index=False)
    _, _, err = ask("kinds", tmp_path / "new.csv")
    assert "accuracy 0 against column 'kind' (4 rows, 4 of them of classes that it was not trained on)" in err


@pytest.mark.parametrize("price", ["", "1.0\nbern,1,True,"], ids=["empty", "with a gap"])
def test_an_incomplete_target_is_no_reason_not_to_predict(ask: Ask, tmp_path: Path, price: str):
    path = tmp_path / "new.csv"
    path.write_text(f"town,rooms,garden,price\nbern,1,True,{price}\n", encoding="utf-8")
    code, _, err = ask("houses", path)
    assert code == 0
    assert "mse" not in err


TABLES = {
    "town,rooms\nbern,1\n": "no column 'garden' among town, rooms",
    "town;rooms;garden\nbern;1;True\n": "set --separator",
    "town,rooms,garden\nbern,1,True\n\nzug,1,True\n": "row 1 (line 4), column 'town' holds 'zug', which the",
    "town,rooms,garden\nbern,1,True\nbern,many,True\n": "row 1 (line 3), column 'rooms' holds the text 'many'; numbers",
    "town,rooms,garden\nbern,1,True\nbern,,True\n": "row 1 (line 3), column 'rooms' is missing; fill it, or drop",
    "town,rooms,garden\nbern,1,True\nbern,1,7\n": "row 1 (line 3), column 'garden' holds '7', and the training file",
    "town,rooms,garden\nbern,True,True\nbern,False,True\n": "row 0 (line 2), column 'rooms' holds True, and the",
    "town,rooms,garden\n": "there is a header and no rows",
    "": "the file is empty",
}


@pytest.mark.parametrize("text", TABLES, ids=TABLES.values())
@pytest.mark.parametrize("size", ["1", "100"])
def test_a_table_that_cannot_be_read_is_one_line_and_nothing_is_written(ask: Ask, tmp_path: Path, text: str, size: str):
    (tmp_path / "new.csv").write_text(text, encoding="utf-8")
    code, out, err = ask("houses", tmp_path / "new.csv", "-o", str(tmp_path / "out.csv"), "--batch-size", size)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"besom: {tmp_path / 'new.csv'}: ")
    assert TABLES[text] in err
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_an_error_late_in_the_file_leaves_stdout_empty(ask: Ask, tmp_path: Path):
    pd.concat([houses(20), houses(1).assign(town="zug")]).to_csv(tmp_path / "new.csv", index=False)
    code, out, err = ask("houses", tmp_path / "new.csv", "--batch-size", "5")
    assert (code, out) == (2, "")
    assert "row 20 (line 22), column 'town' holds 'zug'" in err


def test_what_comes_on_stdin_is_called_so(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"town,rooms,garden\nzug,1,True\n")))
    assert ask("houses", "-")[2].startswith("besom: stdin: row 0 (line 2), column 'town' holds 'zug'")


def test_a_row_has_the_number_that_its_answer_would_have_whatever_it_came_in(lab: Lab, ask: Ask, tmp_path: Path):
    from besom.serving import _features

    table = houses(3).drop(columns="price").astype({"rooms": object})
    table.loc[1, "rooms"] = True
    inputs = besom.load_model(lab.runs["houses"], tracking_uri=lab.location.uri).inputs
    with pytest.raises(DataError, match=r"^input: row 1, column 'rooms' holds True, and the training file has numbers"):
        _features(table, inputs)
    houses(3).assign(town=["bern", "zug", "bern"]).to_parquet(tmp_path / "new.parquet")
    assert "new.parquet: row 1, column 'town' holds 'zug'" in ask("houses", tmp_path / "new.parquet")[2]


@pytest.mark.parametrize(("suffix", "told"), [(".csv", True), (".parquet", False)])
def test_a_name_that_a_spreadsheet_would_compute_is_told_of(ask: Ask, tmp_path: Path, suffix: str, told: bool):
    Image.new("L", (8, 8)).save(tmp_path / "=cmd.png")
    code, _, err = ask("digits", tmp_path, "-o", str(tmp_path / f"out{suffix}"))
    assert code == 0
    warning = f"besom: warning: {tmp_path}/out.csv: a spreadsheet takes '=cmd.png' for a formula; import it as text"
    assert err.startswith(warning) is told


# Arrays and pictures.


def test_an_array_holds_rows_or_pictures(lab: Lab, ask: Ask, tmp_path: Path):
    from sklearn.datasets import load_digits

    pictures = load_digits().images[:20]
    model = besom.load_model(lab.runs["digits"], tracking_uri=lab.location.uri)
    expected = model.predict(torch.tensor(pictures.reshape(20, 64), dtype=torch.float32)).argmax(dim=1)
    for name, array in (("rows", pictures.reshape(20, 64)), ("pictures", pictures), ("bytes", pictures.astype("u1"))):
        np.save(tmp_path / f"{name}.npy", array)
        code, out, _ = ask("digits", tmp_path / f"{name}.npy", "--batch-size", "6")
        assert code == 0
        assert rows_of(out).prediction.tolist() == expected.tolist()


ARRAYS = {
    "its shape is [2, 63]; give rows [n, 64], or pictures [n, 8, 8]": np.zeros((2, 63)),
    "row 1, feature 3 is 17, and the model reads 0 to 16": np.array([[0.0] * 64, [0.0] * 3 + [17.0] + [0.0] * 60]),
    "row 0, feature 0 is nan": np.full((1, 64), np.nan),
    "it is no array of numbers": np.array([["a"] * 64]),
    "cannot be read as an array (Array can't be memory-mapped: Python objects in dtype": np.array([[print] * 64]),
}


def test_load_model_takes_pictures_as_the_command_does_and_refuses_another_shape_in_a_line(lab: Lab):
    model = besom.load_model(lab.runs["digits"], tracking_uri=lab.location.uri)
    pictures = torch.arange(128.0).reshape(2, 8, 8) % 17
    assert torch.equal(model.predict(pictures), model.predict(pictures.reshape(2, 64)))
    assert torch.equal(model.predict(pictures[0]), model.predict(pictures[:1].reshape(1, 64)))
    with pytest.raises(DataError, match=r"^input: its shape is \[2, 8, 7\]; give rows \[n, 64\], or pictures"):
        model.predict(pictures[:, :, 1:])


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_that_cannot_be_read_is_one_line(ask: Ask, tmp_path: Path, what: str):
    np.save(tmp_path / "new.npy", ARRAYS[what], allow_pickle=True)
    code, out, err = ask("digits", tmp_path / "new.npy")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert what in err


def test_pictures_that_are_scaled_already_are_suspected(ask: Ask, tmp_path: Path):
    np.save(tmp_path / "new.npy", np.full((1, 8, 8), 0.5))
    assert "no value is above 1, and the model reads 0 to 16" in ask("digits", tmp_path / "new.npy")[2]


@pytest.mark.parametrize("invert", [False, True])
def test_picture_files_are_read_in_grey_at_the_models_size_and_range(ask: Ask, tmp_path: Path, invert: bool):
    from sklearn.datasets import load_digits

    digits = load_digits().images[:3]
    folder = tmp_path / "pictures" / "below"
    folder.mkdir(parents=True)
    (folder.parent / "notes.txt").write_text("no picture", encoding="utf-8")
    for index, digit in enumerate(digits):
        pixels = (digit / 16 * 255).round().astype(np.uint8)
        picture = Image.fromarray(255 - pixels if invert else pixels).resize((64, 64), Image.Resampling.NEAREST)
        picture.convert(("L", "RGB", "RGBA")[index]).save(folder / f"{index}.png")
    np.save(tmp_path / "same.npy", digits)
    expected = rows_of(ask("digits", tmp_path / "same.npy")[1])
    code, out, _ = ask("digits", folder.parent, *(["--invert"] if invert else []))
    answers = rows_of(out)
    assert code == 0
    assert answers.file.tolist() == [f"below/{index}.png" for index in range(3)]
    assert answers.prediction.tolist() == expected.prediction.tolist()
    assert answers.probability.to_numpy() == pytest.approx(expected.probability.to_numpy(), abs=0.02)


def test_a_file_that_is_no_picture_is_one_line(ask: Ask, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for source in (tmp_path, tmp_path / "a.png"):
        code, out, err = ask("digits", source)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{tmp_path / 'a.png'}: cannot be read as a PNG or JPEG" in err


@pytest.mark.parametrize(
    ("run", "source", "flags", "told"),
    [
        ("houses", ".", (), "no picture size is recorded with this model"),
        ("houses", "houses.csv", ("--invert",), "--invert: it is for pictures"),
        ("houses", "nowhere.csv", (), "nowhere.csv: no such file or folder"),
        ("houses", "houses.csv", ("-o", "houses.csv"), "it is the input as well"),
        ("houses", "houses.csv", ("-o", "out.xlsx"), "its suffix is none of .csv, .parquet, .npy"),
        ("houses", "houses.csv", ("-o", "no/where/out.csv"), "cannot be written (No such file or directory)"),
        ("houses", "houses.csv", ("--batch-size", "0"), "0 is no number of rows"),
        ("houses", "houses.csv", ("--separator", ";;"), "--separator: ';;' is not one character"),
        ("digits", "mlruns/locks", (), "it holds no .png, .jpg, .jpeg file"),
        ("f" * 32, "houses.csv", (), "is not in "),
        ("failed", "houses.csv", (), "left no model (model.safetensors is missing): it ended FAILED"),
        ("own", "houses.csv", (), "its LightningModule or its data is not Besom's"),
        ("models:/houses", "houses.csv", (), "write models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/nothing@champion", "houses.csv", (), "is not in the registry"),
    ],
)
def test_what_cannot_be_asked_is_one_line(ask: Ask, lab: Lab, run: str, source: str, flags: tuple[str, ...], told: str):
    before = sorted(lab.folder.iterdir())
    code, out, err = ask(run, source, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert sorted(lab.folder.iterdir()) == before


# Models of an earlier Besom.


@pytest.fixture
def earlier(lab: Lab) -> Iterator[None]:
    """The descriptions of all models without what they read."""
    files = [path for path in lab.location.directory.rglob("model.json") if "models" not in path.parts]
    texts = [path.read_text(encoding="utf-8") for path in files]
    for path, text in zip(files, texts, strict=True):
        path.write_text(json.dumps({**json.loads(text), "inputs": None}), encoding="utf-8")
    yield
    for path, text in zip(files, texts, strict=True):
        path.write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("earlier")
def test_a_run_of_an_earlier_besom_still_reads_tables_and_arrays_and_says_that_it_knows_no_pictures(
    ask: Ask, tmp_path: Path
):
    code, out, _ = ask("houses", "houses.csv")
    assert (code, len(rows_of(out))) == (0, 120)
    np.save(tmp_path / "new.npy", np.zeros((1, 64)))
    assert ask("digits", tmp_path / "new.npy")[0] == 0
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    code, _, err = ask("digits", tmp_path / "a.png")
    assert code == 2
    assert "trained on pictures by an earlier Besom, train it again" in err


# The registry.


@pytest.fixture(scope="module")
def registered(lab: Lab) -> Lab:
    for name in ("houses", "kinds", "digits"):
        assert register(lab.location, lab.runs[name], name) == "1"
    return lab


def test_a_registered_model_answers_by_its_alias_and_its_version(registered: Lab, ask: Ask):
    _, expected, _ = ask("houses", "houses.csv")
    for reference in ("models:/houses@champion", "models:/houses/1"):
        assert ask(reference, "houses.csv")[:2] == (0, expected)
        assert besom.load_model(reference, tracking_uri=registered.location.uri).spec.name == "houses"


def test_a_run_is_one_version_of_a_name_and_the_alias_moves(registered: Lab, capsys: pytest.CaptureFixture[str]):
    for run, version in (("houses", 1), ("kinds", 2), ("houses", 1)):
        assert main(["register", registered.runs[run], "moving"]) == 0
        assert capsys.readouterr().out == f"moving version {version}: models:/moving@champion\n"
    client = MlflowClient(registered.location.uri)
    assert client.get_model_version_by_alias("moving", "champion").version == 1
    assert len(client.get_run(registered.runs["houses"]).outputs.model_outputs) == 1, "the model is logged once"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("houses", "a/b"), "'a/b' is no name of a model"),
        (("houses", "fine", "--alias", "latest"), "'latest' is no alias"),
        (("houses", "fine", "--alias", "v2"), "'v2' is no alias"),
        (("failed", "fine"), "left no model"),
    ],
)
def test_what_cannot_be_registered_is_one_line(
    lab: Lab, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
):
    run, *rest = arguments
    assert main(["register", lab.runs[run], *rest]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
    assert not MlflowClient(lab.location.uri).search_registered_models("name = 'fine'")


@contextmanager
def without_pickle(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.location.uri)
    mlflow.set_tracking_uri(lab.location.uri)
    yield
    mlflow.set_tracking_uri(None)


def test_mlflow_loads_it_where_it_may_unpickle_nothing(
    registered: Lab, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import mlflow.pyfunc

    if Version(mlflow.__version__) < Version("3.11"):
        pytest.skip("this MLflow unpickles models whatever it is told")

    class Pickled(mlflow.pyfunc.PythonModel):
        def predict(self, context: object, model_input: pd.DataFrame) -> pd.DataFrame:
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "pickled"), python_model=Pickled(), pip_requirements=["mlflow"])
    expected = rows_of(ask("kinds", "kinds.csv", "--probabilities")[1])
    with without_pickle(registered, monkeypatch):
        with pytest.raises(MlflowException, match="Deserializing model using pickle is disallowed"):
            mlflow.pyfunc.load_model(str(tmp_path / "pickled"))
        model = mlflow.pyfunc.load_model("models:/kinds@champion")
        table = pd.read_csv("kinds.csv").astype({"rooms": float, "garden": float})
        pd.testing.assert_frame_equal(model.predict(table), expected.drop(columns="row"), check_dtype=False, rtol=1e-5)
        with pytest.raises(MlflowException, match="input: row 0, column 'town' holds 'zug'"):
            model.predict(table[:1].assign(town="zug"))
        with pytest.raises(MlflowException, match=r"missing inputs \['town'\]"):
            model.predict(table.drop(columns="town"))
        digits = mlflow.pyfunc.load_model("models:/digits@champion")
        assert digits.predict(np.zeros((2, 8, 8), dtype=np.float32)).columns.tolist()[:3] == [
            "prediction", "probability", "probability_0"
        ]  # fmt: skip


def test_the_signature_names_columns_and_types(registered: Lab):
    def read(name: str) -> list[list[dict[str, Any]]]:
        files = registered.location.directory.rglob(f"{registered.runs[name]}/artifacts/model.json")
        signature = signature_of(json.loads(next(files).read_text(encoding="utf-8")))
        return [
            [spec.to_dict() for spec in side]
            for side in (signature.inputs.inputs, signature.outputs.inputs)
        ]  # fmt: skip

    inputs, outputs = read("houses")
    assert [(one["name"], one["type"]) for one in inputs] == [
        ("town", "string"),
        ("rooms", "double"),
        ("garden", "double"),
    ]
    assert [(one["name"], one["type"]) for one in outputs] == [("prediction", "float")]
    inputs, outputs = read("kinds")
    assert [one["name"] for one in outputs] == ["prediction", "probability", "probability_cheap", "probability_dear"]
    assert outputs[0]["type"] == "string"
    assert read("digits")[0][0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 8, 8)}


def test_what_a_server_has_to_install_is_pinned(registered: Lab):
    pinned = next(registered.location.directory.rglob("requirements.txt")).read_text(encoding="utf-8").split()
    assert f"besom=={besom.__version__}" in pinned
    assert f"torch=={torch.__version__.partition('+')[0]}" in pinned
    assert all("==" in line for line in pinned)


# Damaged files.


def changed(**changes: object) -> Callable[[bytes], bytes]:
    """Return a description with changes in its spec."""

    def change(content: bytes) -> bytes:
        described = json.loads(content)
        return json.dumps({**described, "spec": {**described["spec"], **changes}}).encode()

    return change


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut weights": ("model.safetensors", lambda content: content[:-10], "model.safetensors: damaged ("),
    "no weights": ("model.safetensors", lambda _: b"", "model.safetensors: damaged ("),
    "noise": ("model.safetensors", lambda content: b"\xff" * len(content), "model.safetensors: damaged ("),
    "no scaler": ("model.safetensors", lambda content: content.replace(b"scaler.shift", b"scaler.sh1ft"),
                  "model.safetensors: damaged (no scaler.shift of 5 values)"),
    "other names": ("model.safetensors", lambda content: content.replace(b"bias", b"b1as"),
                    "model.safetensors: damaged (its tensors are not those of this model"),
    "cut description": ("model.json", lambda content: content[:50], "model.json: damaged (JSONDecodeError"),
    "no description": ("model.json", lambda _: b"", "model.json: damaged (JSONDecodeError"),
    "a list": ("model.json", lambda _: b"[]", "model.json: damaged (TypeError"),
    "not UTF-8": ("model.json", lambda _: b"\xff", "model.json: damaged (UnicodeDecodeError"),
    "no spec": ("model.json", lambda _: b"{}", "model.json: damaged (KeyError: 'spec')"),
    "more inputs": ("model.json", changed(in_features=7), "model.json: damaged (7 inputs, and 5 names)"),
    "another task": ("model.json", changed(task="guess"), "model.json: damaged (guess with 0 classes and 1 outputs)"),
    "a number for a name": ("model.json", changed(name=3), "model.json: damaged (a name is no text)"),
    "a torn config": ("config.yaml", lambda content: b"{" + content, "config.yaml: damaged ("),
    "an empty config": ("config.yaml", lambda _: b"", "config.yaml: damaged (it holds no keys)"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_one_line_that_names_the_run_and_the_file(lab: Lab, ask: Ask, damage: str):
    name, change, told = DAMAGE[damage]
    (path,) = lab.location.directory.rglob(f"{lab.runs['houses']}/artifacts/{name}")
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        code, out, err = ask("houses", "houses.csv")
    finally:
        path.write_bytes(before)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"besom: run '{lab.runs['houses']}': {told}")
    assert err.endswith("put its copy back among the run's artifacts, or train the run again\n")


# A recorded config is code.


@pytest.fixture
def planted(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A file that a target in the config of the run of houses would make, in place of its activation."""
    (config,) = lab.location.directory.rglob(f"{lab.runs['houses']}/artifacts/config.yaml")
    text = config.read_text(encoding="utf-8")
    touch = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [f"{tmp_path}/made"]}]}
    written = yaml.safe_load(text)
    written["model"]["activation"] = touch
    config.write_text(yaml.safe_dump(written), encoding="utf-8")
    yield tmp_path / "made"
    config.write_text(text, encoding="utf-8")


def test_what_a_recorded_config_names_is_built_at_no_door_unless_it_is_trusted(
    lab: Lab, ask: Ask, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    told = r"model.activation._target_: pathlib.Path.touch is none of what Besom, torch and Lightning ship to be built"
    code, out, err = ask("houses", "houses.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"besom: {told}")
    assert "if you trust pathlib.Path.touch: --trust pathlib.Path.touch, or trust: [pathlib.Path.touch] in" in err
    for command in (["register", lab.runs["houses"], "planted"], ["reproduce", lab.runs["houses"]]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith(f"besom: {told}")
    assert not MlflowClient(lab.location.uri).search_registered_models("name = 'planted'")
    with pytest.raises(ConfigError, match=rf'{told}.*trust=\["pathlib.Path.touch"\]'):
        besom.load_model(lab.runs["houses"], tracking_uri=lab.location.uri)
    folder = next(lab.location.directory.rglob(f"{lab.runs['houses']}/artifacts"))
    with pytest.raises(ConfigError, match=rf"{told}.*BESOM_TRUST=pathlib.Path.touch in the environment"):
        _load_pyfunc(str(folder))
    assert not planted.exists()


OWN = """
from torch import nn
from besom.models import SupervisedModule


class Wide(SupervisedModule):
    def __init__(self, *, spec, optimizer, scheduler=None):
        super().__init__(nn.Linear(spec.in_features, spec.out_features), spec=spec, optimizer=optimizer)
"""


@pytest.fixture(scope="module")
def wide(lab: Lab, compose: Callable[..., DictConfig]) -> Iterator[str]:
    """A run of a model of the user's own, in a module in his folder."""
    (lab.folder / "wide_net.py").write_text(OWN, encoding="utf-8")
    sys.path.append(str(lab.folder))
    config = compose("data=diabetes", "trainer.max_epochs=1")
    OmegaConf.set_struct(config, False)
    config.model = {"_target_": "wide_net.Wide"}
    with Recorder(lab.location, "lab") as recorder:
        record(lab, recorder, "wide", config)
    yield lab.runs["wide"]
    sys.path.remove(str(lab.folder))


def test_a_model_of_ones_own_is_built_for_who_names_its_package_and_says_what_serving_it_needs(
    lab: Lab, wide: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(
        ConfigError, match=r'if you trust wide_net: trust=\["wide_net"\], or trust: \[wide_net\] in besom'
    ):
        besom.load_model(wide, tracking_uri=lab.location.uri)
    model = besom.load_model(wide, tracking_uri=lab.location.uri, trust=["wide_net"])
    assert type(model.module).__name__ == "Wide"
    assert main(["register", wide, "wide"]) == 2
    assert "--trust wide_net" in capsys.readouterr().err
    assert main(["register", wide, "wide", "--trust", "wide_net"]) == 0
    out, err = capsys.readouterr()
    assert out == "wide version 1: models:/wide@champion\n"
    assert err == (
        "besom: it is built by wide_net.Wide: where it is loaded or served, wide_net must be importable (PYTHONPATH), "
        "and BESOM_TRUST=wide_net be set\n"
    )
    folder = next(lab.location.directory.rglob(f"{wide}/artifacts"))
    monkeypatch.setenv("BESOM_TRUST", "wide_net")
    x = np.zeros((2, 10), dtype=np.float32)
    assert len(_load_pyfunc(str(folder)).predict(pd.DataFrame(x, columns=list(model.feature_names)))) == 2
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(lab.folder)])
    monkeypatch.delitem(sys.modules, "wide_net")
    with pytest.raises(
        ConfigError, match=r"wide_net.Wide is not found, .* the run was trained in /somewhere: go there"
    ):
        besom.load_model(wide, tracking_uri=lab.location.uri)


# Served.


@pytest.fixture(scope="module")
def served(registered: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `mlflow models serve` with the model of houses, which may unpickle nothing."""
    programs = Path(sys.executable).parent
    if not ((programs / "mlflow").exists() and (programs / "uvicorn").exists() and shutil.which("bash")):
        pytest.skip("mlflow models serve needs the commands mlflow, uvicorn and bash")
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [programs / "mlflow", "models", "serve", "--model-uri", "models:/houses@champion",
               "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    environ = environment(
        MLFLOW_TRACKING_URI=registered.location.uri,
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )
    with log.open("wb") as lines:
        server = subprocess.Popen(command, env=environ, stdout=lines, stderr=lines, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        while not answers(f"{url}/ping"):
            said = log.read_text(encoding="utf-8")
            if "'FastAPI' object has no attribute 'route'" in said:
                pytest.skip("this MLflow's own server does not start with this FastAPI")
            assert server.poll() is None, said
            time.sleep(0.2)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def post(url: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_served_model_answers_a_request_as_the_command_does_and_refuses_what_it_cannot_read(served: str, ask: Ask):
    expected = rows_of(ask("houses", "houses.csv")[1]).prediction[:5]
    records = json.loads(houses(120)[:5].drop(columns="price").to_json(orient="records"))
    status, answer = post(served, {"dataframe_records": records})
    assert status == 200
    assert [row["prediction"] for row in answer["predictions"]] == pytest.approx(expected.tolist(), rel=1e-5)
    for change, told in (
        ({"town": "zug"}, "column 'town' holds 'zug'"),
        ({"rooms": None}, "column 'rooms' is missing"),
        ({"garden": None}, "column 'garden' is missing"),
    ):
        status, answer = post(served, {"dataframe_records": [{**records[0], **change}]})
        assert status == 400
        assert told in answer["message"]
