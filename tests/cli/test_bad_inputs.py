"""A user's mistakes: each ends in one line (where, what, the remedy), exit code 2, and nothing half-written."""

from __future__ import annotations

import re
import shlex
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf.errors import OmegaConfBaseException

from besom.cli import main
from besom.cli.hydra_main import train_task
from besom.config.checks import check
from besom.config.hydra_versions import VERSION_BASE
from besom.config.messages import explain
from besom.config.paths import conf_dir, search_path
from besom.config.schema import register_schemas
from besom.errors import BesomError, StoreError
from besom.hydra_app.app import swept_app
from besom.sweep.study.samplers import build_pruner, build_sampler
from besom.tracking.store import Location
from tests.conftest import App

pytestmark = pytest.mark.slow

TABLE = "rooms,age,price\n" + "".join(f"{row},{row % 7},{row * 3}\n" for row in range(1, 41))
CSV = "data=csv data.source.path={} data.source.target=price model=linear_regression trainer=cpu trainer.max_epochs=2"
TINY = "data=diabetes model=linear_regression trainer=cpu trainer.max_epochs=1"

MODEL = """\
import pytorch_lightning as pl
import torch


class Mine(pl.LightningModule):
    def __init__(self, optimizer, broken=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.optimizer = optimizer
        self.broken = broken

    def training_step(self, batch, index):
        if self.broken:
            raise RuntimeError("a mistake of one's own")
        return self.weight.square().sum()

    def validation_step(self, batch, index):
        self.log("val/mine", self.weight.square().sum())

    def configure_optimizers(self):
        return self.optimizer(self.parameters())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing recorded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr, without the program's name."""
        assert self.err.startswith("besom: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("besom: ").rstrip("\n")


Besom = Callable[[str], Ended]


@pytest.fixture
def besom(capsys: pytest.CaptureFixture[str]) -> Besom:
    """`besom` in this process."""

    def run(line: str) -> Ended:
        code = main(shlex.split(line))
        return Ended(code=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def refused(besom: Besom, folder: Path) -> Callable[[str], str]:
    """Return the error line of a command that has recorded nothing."""

    def run(line: str) -> str:
        ended = besom(line)
        assert ended.code == 2, ended
        assert not list(folder.rglob("*.db"))
        return ended.line

    return run


# Most mistakes are found by what reads or checks the config, which is called here without the command around it. Of
# each kind, some go through the command as well: its line, its exit code, and that nothing is recorded.


def error_line(read: Callable[[], object]) -> str:
    """Return the line that a command prints for the error of what reads its config."""
    with pytest.raises((BesomError, HydraException, OmegaConfBaseException, yaml.YAMLError)) as refused:
        read()
    return explain(refused.value)


def read_run(*overrides: str) -> None:
    """Compose and check the config of a run."""
    register_schemas()
    with search_path([]), initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        check(loader.load_configuration("train", list(overrides), run_mode=RunMode.RUN))


@pytest.fixture
def read_sweep(load_app: Callable[..., App], folder: Path) -> Callable[[], None]:
    """Compose and check sweeps/bad.yaml, as a sweep does before it starts its workers."""

    def read() -> None:
        loader, config = load_app(folder / "sweeps", "bad", "hydra/sweeper=besom")
        app = swept_app(config, [], HydraContext(config_loader=loader, callbacks=Callbacks()), train_task)
        build_sampler(app.request.spec.search, 0, app.request.space)
        build_pruner(app.request.spec.search)
        app.check()

    return read


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def sweep_file(folder: Path, name: str, params: str = "{optimizer.lr: 'interval(0.1, 1)'}", more: str = "") -> Path:
    """A sweep of two short trials."""
    text = (
        "defaults: [train, override data: diabetes, override model: linear_regression, override trainer: cpu, _self_]\n"
        f"trainer: {{max_epochs: 1}}\nhydra:\n  sweeper:\n    n_trials: 2\n    params: {params}\n{more}"
    )
    return write(folder / f"sweeps/{name}.yaml", text)


# Detected before anything starts: overrides.


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        # an unknown key
        ("optimizer.lrr=1", "optimizer.lrr=1: there is no key optimizer.lrr; did you mean optimizer.lr?"),
        ("modle=mlp_classifier", "modle=mlp_classifier: there is no key modle; did you mean model?"),
        ("trainer.max_epoch=3", "there is no key trainer.max_epoch; did you mean trainer.max_epochs?"),
        ("nothing=1", "there is no key nothing; use one of seed, objective,"),
        ("nothing=1", r"\(\+nothing=1 adds it\)"),
        ("data.source.kind=1", "there is no key data.source.kind; there are none"),
        ("~optimizer.lr", "~optimizer.lr: it cannot be deleted; give it a value"),
        # a wrong type
        ("optimizer.lr=fast", "optimizer.lr=fast: 'fast' is not a number"),
        ("data.batch_size=1.5", "data.batch_size=1.5: '1.5' is not a whole number"),
        ("data.batch_size=", "data.batch_size=: '' is not a whole number"),
        ("test=maybe", "test=maybe: 'maybe' is neither true nor false"),
        ("optimizer.lr=null", "optimizer.lr=null: it cannot be null; give it a value"),
        ("model.hidden_sizes=5", r"model.hidden_sizes=5: a list is needed; write it as \[1,2\]"),
        ("early_stopping=3", "early_stopping=3: it holds keys, not a value; set one of them"),
        ("seed.low=3", "seed.low=3: it is one value and holds no keys"),
        # a missing group, an unknown experiment
        ("model=resnet", "model=resnet: there is no such config; use one of linear_regression, "),
        ("model=mlp", r"model=mlp: there is no such config; did you mean mlp_classifier\? \(use one of "),
        ("experiment=mnist_an", r"experiment=mnist_an: there is no such config; did you mean mnist_ann\?"),
        ("hydra/launcher=slurm", "hydra/launcher=slurm: there is no such config; use one of basic"),
        ("+model=mlp_classifier", "model is chosen twice; model=NAME chooses another"),
        # what only a sweep takes
        ("optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.2: one run takes one value; .* add --multirun"),
        ("'optimizer.lr=interval(0.1,0.2)'", "one run takes one value; add --multirun, or use besom sweep"),
        ("optimizer=[sgd,adam]", "optimizer takes one choice; to compare several, use besom sweep"),
        # what cannot be read
        ("digits", "digits: it has no '='; write KEY=VALUE"),
        ("'model.width=choice('", r"model.width=choice\(: not a value that Hydra can read, from .*; quote it"),
        ("seed==3", "seed==3: not a value that Hydra can read, from '=' on; quote it"),
        ("'optimizer.lr=${nothing}'", "optimizer.lr: Interpolation key 'nothing' not found; mend the "),
        # values that types do not catch
        ("data.batch_size=0", "data.batch_size: 0 is below 1; take at least one sample, or null for the full batch"),
        ("trainer.max_epochs=0", "trainer.max_epochs: 0 is below 1; train for at least one epoch"),
        ("optimizer.lr=-1", "optimizer.lr: -1.0 is below 0; a learning rate is not negative"),
        ("direction=up", "direction: 'up' is unknown; use minimize or maximize"),
        ("threads=none", "threads: 'none' is not a number of threads; use auto, or 1 or more"),
        ("objective=val/accc", r"objective: 'val/accc' is not a metric of MLPClassifier; did you mean val/acc\?"),
        ("data.val_fraction=0", "objective: 'val/loss' needs a validation part, but data.val_fraction is 0"),
        # an impossible device
        ("trainer.accelerator=tpu", "trainer.accelerator: 'tpu' is unknown; use auto, cpu or gpu"),
        # a missing table
        ("data=csv", "data.source.path: it has no value yet; add data.source.path=VALUE"),
        ("data=csv data.source.path=gone.csv", "data.source.path: gone.csv: no such file; give the path of a .csv"),
    ],
)
def test_a_wrong_override_is_refused(arguments: str, line: str) -> None:
    assert re.search(line, error_line(lambda: read_run(*shlex.split(arguments))))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("optimizer.lrr=1", "optimizer.lrr=1: there is no key optimizer.lrr; did you mean optimizer.lr?"),
        ("model=resnet", "model=resnet: there is no such config; use one of linear_regression, "),
        ("digits", "digits: it has no '='; write KEY=VALUE"),
        ("data.batch_size=0", "data.batch_size: 0 is below 1; take at least one sample, or null for the full batch"),
        ("tracking=null", "tracking=null: a group takes the name of one of its configs"),
        ("model.hidden_sizes.0=5", "mend the config or the override|model.hidden_sizes is null, .*; set it whole"),
        ("--cfg jobs", r"argument --cfg/-c: invalid choice: 'jobs' \(choose from .*\); see besom train --hydra-help"),
        ("--nothing", "unrecognized arguments: --nothing; see besom train --hydra-help"),
        ("--cfg job --info", "--run, --multirun, --cfg and --info exclude each other"),
        ("--resolve", "--resolve goes with --cfg"),
        ("--config-dir gone", "--config-dir: gone is not a folder; name one that holds your configs"),
        ("--config-name gone", "there is no config gone.yaml; --info searchpath shows where it may be"),
    ],
)
def test_a_run_with_a_wrong_override_or_flag_ends_before_anything_starts(
    refused: Callable[[str], str], arguments: str, line: str
) -> None:
    assert re.search(line, refused(f"train {arguments}"))


def test_an_override_is_refused_in_a_sweep_as_in_a_run(refused: Callable[[str], str]) -> None:
    assert refused("sweep digits optimizer.lrr=1") == refused("train optimizer.lrr=1")
    assert refused("sweep digits model=resnet") == refused("train model=resnet")
    assert "digits.yaml: data.batch_size: 0 is below 1" in refused("sweep digits data.batch_size=0")


def test_a_gpu_that_is_not_there_is_refused(refused: Callable[[str], str], folder: Path) -> None:
    assert "99 GPU(s) asked for, found here: " in refused("sweep digits hydra.sweeper.devices=99")
    assert "no GPU 77; found here: " in refused("sweep digits hydra.sweeper.devices=[77]")
    assert "'tpu' is unknown; use auto, cpu, gpu" in refused("sweep digits hydra.sweeper.devices=tpu")


# Detected before anything starts: sweep files.


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("{optimizer.lr: 'interval(0.1, 0.001)'}", "bad.yaml: optimizer.lr: low 0.1 is above high 0.001; swap"),
        ("{optimizer.lr: 'tag(log, interval(0, 1))'}", "bad.yaml: optimizer.lr: a log scale cannot start at 0"),
        ("{optimizer: choice()}", "bad.yaml: optimizer=choice(): nothing to choose from; name at least one value"),
        ("{model.depth: 'range(5, 2)'}", "bad.yaml: model.depth: range(5, 2, 1) is empty; count from the start"),
        ("{optimizer.lrr: 'interval(0.1, 1)'}", "bad.yaml: there is no key optimizer.lrr; did you mean optimizer.lr?"),
        ("{optimizer.lr: 'choice(a, b)'}", "bad.yaml: optimizer.lr: 'a' is not a number"),
        ("{optimiser: 'choice(sgd, adam)'}", "bad.yaml: there is no key optimiser; did you mean optimizer?"),
        ("{optimizer: 'choice(sgd, adamm)'}", "bad.yaml: optimizer=adamm: there is no such config; did you mean adam?"),
        ("{data.batch_size: 'choice(0, 16)'}", "bad.yaml: data.batch_size: 0 is below 1; take at least one sample"),
        ("{}", "bad.yaml: hydra.sweeper.params: there is nothing to choose from; add a parameter, such as"),
        ("{optimizer.lr: 0.1}", "bad.yaml: hydra.sweeper.params: there is nothing to choose from"),
        ("{'': choice(1, 2)}", "bad.yaml: params: '' is the name of no key; write such as model.depth: range(1, 4)"),
        ("{model: -.inf}", "bad.yaml: model: -inf is no config of this group; use one of linear_regression, logistic"),
        ("{optimizer: [null]}", "bad.yaml: optimizer: [null] is no config of this group; use one of adagrad, adam"),
        ("{optimizer: 'choice(sgd, 3)'}", "bad.yaml: optimizer: 3 is no config of this group; use one of adagrad, ad"),
        ("{optimizer.lr: '${nothing}'}", "bad.yaml: hydra.sweeper.params.optimizer.lr: Interpolation key 'nothing' no"),
        ("[a, b]", "bad.yaml: hydra.sweeper.params: it holds KEY: VALUE lines, not a value or a list"),
    ],
)  # fmt: skip
def test_a_wrong_search_space_is_refused(read_sweep: Callable[[], None], folder: Path, params: str, line: str) -> None:
    sweep_file(folder, "bad", params)
    assert error_line(read_sweep).startswith(line)


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("{optimizer.lr: 'interval(0.1, 0.001)'}", "bad.yaml: optimizer.lr: low 0.1 is above high 0.001; swap"),
        ("{optimizer: 'choice(sgd, adamm)'}", "bad.yaml: optimizer=adamm: there is no such config; did you mean adam?"),
        ("[a, b]", "bad.yaml: hydra.sweeper.params: it holds KEY: VALUE lines, not a value or a list"),
    ],
)
def test_a_sweep_with_a_wrong_search_space_ends_before_anything_is_recorded(
    refused: Callable[[str], str], folder: Path, params: str, line: str
) -> None:
    sweep_file(folder, "bad", params)
    assert refused("sweep bad").startswith(line)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "objective: val/acc\n",
            "bad.yaml: objective: 'val/acc' is not a metric of LinearRegression; did you mean val/",
        ),
        ("direction: up\n", "bad.yaml: direction: 'up' is unknown; use minimize or maximize"),
        (
            "early_stopping: {patient: 1}\n",
            "bad.yaml: there is no key early_stopping.patient; did you mean early_stopping.p",
        ),
        ("tune: {method: lr_find}\n", "bad.yaml: tune: the sweep samples optimizer.lr, which tune=lr would replace; "),
        ("tune: {method: scale_batch_size}\n", "bad.yaml: tune: a batch size is not tuned in a sweep, whose trials "),
        ("    n_trial: 3\n", "bad.yaml: there is no key hydra.sweeper.n_trial; did you mean hydra.sweeper.n_trials?"),
        (
            "    pruner: median\n",
            "bad.yaml: hydra.sweeper.pruner: 'median' names no class; write it as {_target_: optuna.",
        ),
        (
            "    pruner: {patience: 3}\n",
            "bad.yaml: hydra.sweeper.pruner: has no _target_; name one, such as optuna.pruners.",
        ),
        (
            "    pruner: {_target_: optuna.pruners.HyperbandPruner, min: 1}\n",
            "bad.yaml: hydra.sweeper.pruner.min: HyperbandPruner takes no 'min'; did you mean min_resource?",
        ),
        ("    patience: 0\n", "bad.yaml: hydra.sweeper.patience: 0 is below 1; raise it"),
        ("    retries: -1\n", "bad.yaml: hydra.sweeper.retries: -1 is below 0; raise it"),
        ("    bundle: many\n", "bad.yaml: hydra.sweeper.bundle: many is no size; use auto, off, or a number of trials"),
        ("    bundle: 0\n", "bad.yaml: hydra.sweeper.bundle: 0 is no size; use auto, off, or a number of trials"),
        ("    trials_per_device: 0\n", "bad.yaml: hydra.sweeper.trials_per_device: 0 is below 1; raise it"),
        ("    enqueue: [3]\n", "bad.yaml: hydra.sweeper.enqueue: '3' is no parameters; write KEY: VALUE lines"),
        ("    n_jobs: 0\n", "bad.yaml: hydra.sweeper.n_jobs: 0 is below 1; raise it"),
        ("    finalists: 3\n", "bad.yaml: hydra.sweeper.finalists: '3' stands where KEY: VALUE lines belong"),
        (
            "    finalists: {tops: 3}\n",
            "bad.yaml: there is no key hydra.sweeper.finalists.tops; did you mean hydra.sweeper.finalists.top?",
        ),
        ("    finalists: {top: 0}\n", "bad.yaml: hydra.sweeper.finalists.top: 0 is below 1; raise it"),
        ("    finalists: {top: 1, seeds: 0}\n", "bad.yaml: hydra.sweeper.finalists.seeds: 0 is below 1; raise it"),
        ("    finalists: {top: two}\n", "bad.yaml: hydra.sweeper.finalists.top: 'two' is not a whole number"),
        (
            "    finalists: {seeds: 3}\n",
            "bad.yaml: hydra.sweeper.finalists.top: it has no value, so that there are none; add top: 3",
        ),
        (
            "    finalists: {top: 1, overrides: [a]}\n",
            "bad.yaml: hydra.sweeper.finalists.overrides: '['a']' sets nothing; write KEY: VALUE lines",
        ),
        (
            "    finalists: {top: 1, overrides: {trainer.max_epoch: 9}}\n",
            "bad.yaml: hydra.sweeper.finalists.overrides: there is no key trainer.max_epoch; did you mean trainer.max_",
        ),
        (
            "    finalists: {top: 1, register: a/b}\n",
            "bad.yaml: hydra.sweeper.finalists.register: 'a/b' is no name of a model; use letters, digits, space",
        ),
        ("    when: 3\n", "bad.yaml: hydra.sweeper.when: it holds KEY: VALUE lines"),
        ("    sampler: tpe\n", "bad.yaml: hydra.sweeper.sampler: 'tpe' names no class; write it as {_target_: optuna."),
        (
            "    sampler: {sead: 3}\n",
            "bad.yaml: hydra.sweeper.sampler.sead: TPESampler takes no 'sead'; did you mean seed?",
        ),
        (
            "    sampler: {_target_: optuna.samplers.TPSampler}\n",
            "bad.yaml: hydra.sweeper.sampler: optuna.samplers.TPSampler does not exist; did you mean TPESampler? (",
        ),
        (
            "    sampler: {_target_: optuna.samplers.TPESampler, n: 1}\n",
            "bad.yaml: hydra.sweeper.sampler.n: TPESampler takes no 'n'; did you mean n_startup_trials?",
        ),
        ("  foo: [1\nseed: 3\n", "bad.yaml: line 8, column 5: "),
        ("\tseed: 3\n", "bad.yaml: line 7, column 1: found character "),
        ("seed: 1\nseed: 2\n", "bad.yaml: line 8, column 1: found duplicate key seed; mend the YAML"),
        ("seed: one\n", "bad.yaml: seed: 'one' is not a whole number"),
        ("seed: -1\n", "bad.yaml: seed: -1 is below 0; take 0 or more"),
        ("objective: true\n", "bad.yaml: objective: True is no name; write such as objective: val/acc, or a list of"),
        ("direction: 1e400\n", "bad.yaml: direction: inf is no name; write such as direction: maximize, or a list"),
        (
            "    devices: .nan\n",
            "bad.yaml: hydra.sweeper.devices: nan names none; use auto, cpu, gpu, a number",
        ),
        ("    timeout: .nan\n", "bad.yaml: hydra.sweeper.timeout: nan is no number; take 0 or more"),
        *[  # Hydra 1.4 resolves it while it composes
            ("    study_name: ${hydra:job.name}\n", "bad.yaml: hydra.sweeper.study_name: what ${hydra:…} refers to is")
            for _ in VERSION_BASE
        ],
        ("    when: {'': {optimizer.lr: 1}}\n", "bad.yaml: when: '' is the name of no key; write such as model=mlp"),
        ("    when: {data=digits: 3}\n", "bad.yaml: when: 'data=digits' needs parameters below it, like model.depth"),
        ("early_stopping: ''\n", "bad.yaml: early_stopping: '' stands where KEY: VALUE lines belong"),
    ],
)
def test_a_wrong_sweep_file_is_refused(read_sweep: Callable[[], None], folder: Path, more: str, line: str) -> None:
    sweep_file(folder, "bad", more=more)
    assert line in error_line(read_sweep)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("    n_trial: 3\n", "bad.yaml: there is no key hydra.sweeper.n_trial; did you mean hydra.sweeper.n_trials?"),
        ("    retries: -1\n", "bad.yaml: hydra.sweeper.retries: -1 is below 0; raise it"),
        ("    sampler: {sead: 3}\n", "bad.yaml: hydra.sweeper.sampler.sead: TPESampler takes no 'sead'; did you mean"),
        ("  foo: [1\nseed: 3\n", "bad.yaml: line 8, column 5: "),
    ],
)
def test_a_sweep_with_a_wrong_file_ends_before_anything_is_recorded(
    refused: Callable[[str], str], folder: Path, more: str, line: str
) -> None:
    sweep_file(folder, "bad", more=more)
    assert line in refused("sweep bad")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "",
            "bad.yaml: it has no data, model, optimizer, scheduler, trainer, tracking; begin the file with: defaults:",
        ),
        ("seed: 1\n", "bad.yaml: it has no data, model"),
        ("- train\n", "bad.yaml: lines of KEY: VALUE are needed"),
        ("defaults: train\n", "bad.yaml: defaults: a list is needed; write each on a line of its own, such as - train"),
        ("defaults: [trian]\n", "bad.yaml: defaults: there is no config 'trian'"),
        ("defaults: [bad]\n", "bad.yaml: defaults: lead back to itself (bad.yaml -> bad.yaml); take that line out"),
        (
            "defaults: [train, override modle: x]\n",
            "bad.yaml: defaults: there is no group modle to override; mend its name, or take the line out",
        ),
        ("caf\xe9: 1\n", "bad.yaml: it is not UTF-8; save it as UTF-8"),
    ],
)
def test_what_is_no_sweep_file_is_refused(refused: Callable[[str], str], folder: Path, text: str, line: str) -> None:
    write(folder / "sweeps/bad.yaml", "").write_bytes(text.encode("latin-1"))
    assert line in refused("sweep bad")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "sweep",
            "sweep: name one of diabetes, digits, fashion_best, fashion_mnist, mnist, mnist_best, or a path to a",
        ),
        (
            "sweep --cfg job",
            "sweep: name one of diabetes, digits, fashion_best, fashion_mnist, mnist, mnist_best, or a path",
        ),
        (
            "sweep digit",
            "sweep 'digit' does not exist; did you mean digits? (use one of diabetes, digits, fashion_best",
        ),
        (
            "sweep nothing",
            "sweep 'nothing' does not exist; use one of diabetes, digits, fashion_best, fashion_mnist, mnist",
        ),
        ("sweep ./digits.yaml", "sweep file ./digits.yaml does not exist; name a file, or one of diabetes, digits"),
        ("sweep there.yml", "sweep file there.yml: Hydra reads only files that end with .yaml; rename it"),
        ("sweep ./train.yaml", "train.yaml: a config has the same name, "),
        (
            "sweep ''",
            "sweep '' does not exist; use one of diabetes, digits, fashion_best, fashion_mnist",
        ),
        ("sweep digits mnist", "mnist: it has no '='; write KEY=VALUE"),
        ("sweep digits --run", "--run: a sweep is many runs; leave it out, or use besom train"),
        ("foo", "use one of train, sweep, studies, report, best, reproduce, predict, register, ui; see besom --help"),
        ("trian", "'trian' is not a command; did you mean train?"),
        ("--foo", "'--foo' is not a command"),
        ("reproduce", "reproduce: the following arguments are required: RUN_ID; see besom reproduce --help"),
        ("reproduce abc", "there is nothing recorded yet; start with: besom train"),
        ("reproduce abc --exact", "there is nothing recorded yet; start with: besom train"),
        ("reproduce abc --here --exact", "argument --exact: not allowed with argument --here; see besom reproduce"),
        ("reproduce abc --tolerance -1", "argument --tolerance: -1 is not a tolerance; choose 0 or more, such as 0.01"),
        ("reproduce abc --pip-args=-q", "reproduce: --pip-args goes with --exact; see besom reproduce --help"),
        ("ui", "there is nothing recorded yet; start with: besom train"),
        ("ui --port http", "ui: argument --port: http is not a port; choose 1 to 65535; see besom ui --help"),
    ],
)
def test_a_wrong_command_is_refused(refused: Callable[[str], str], folder: Path, arguments: str, line: str) -> None:
    write(folder / "there.yml", "")
    write(folder / "train.yaml", "defaults: [train]\n")
    assert line in refused(arguments)


def test_full_error_shows_the_traceback_as_well(besom: Besom, monkeypatch: pytest.MonkeyPatch) -> None:
    short = besom("train optimizer.lrr=1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    full = besom("train optimizer.lrr=1")
    assert full.code == short.code == 2
    assert full.err.startswith("Traceback")
    assert full.err.endswith(short.err)


# Stores.


def test_a_broken_run_database_is_refused_and_left_alone(besom: Besom, folder: Path) -> None:
    file = write(folder / "mlruns/mlflow.db", "this is not a database")
    sweep_file(folder, "tiny")
    for command in (f"train {TINY}", "sweep tiny", "reproduce abc", "ui"):
        ended = besom(command)
        assert ended.code == 2
        assert f"{file}: cannot be used as the tracking store (file is not a database); it is damaged" in ended.line
    assert file.read_text(encoding="utf-8") == "this is not a database"
    assert not (folder / "mlruns/optuna.db").exists()


def test_a_broken_study_database_is_refused_and_left_alone(besom: Besom, folder: Path) -> None:
    file = write(folder / "mlruns/optuna.db", "this is not a database")
    sweep_file(folder, "tiny")
    ended = besom("sweep tiny")
    assert ended.code == 2
    assert (
        f"sqlite:///{file}: cannot be used as the study's storage (file is not a database); it is damaged" in ended.line
    )
    assert file.read_text(encoding="utf-8") == "this is not a database"
    assert not (folder / "mlruns/mlflow.db").exists()


def test_a_folder_that_cannot_be_written_is_refused(refused: Callable[[str], str], folder: Path) -> None:
    write(folder / "a_file", "")
    sweep_file(folder, "tiny")
    told = r"cannot be written \(.*\); make it writable, or choose another with"
    for command in (f"train {TINY}", "sweep tiny"):
        assert re.search(f"a_file: {told}", refused(f"{command} tracking.directory=a_file"))
    for directory in ("/proc/mlruns", "/sys/mlruns"):
        with pytest.raises(StoreError, match=f"{directory}: {told}"):
            Location.of({"uri": None, "directory": directory}).prepare()


def test_a_tracking_server_that_is_not_there_is_refused_at_once(refused: Callable[[str], str], folder: Path) -> None:
    sweep_file(folder, "tiny")
    uri = f"http://127.0.0.1:{free_port()}"
    for command in (f"train {TINY}", "sweep tiny"):
        assert f"{uri}: no tracking server answers there (Connection refused); start it, or check" in refused(
            f"{command} tracking.uri={uri}"
        )


def test_a_port_in_use_is_refused_with_another_to_try(besom: Besom, location: Location) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = besom(f"ui --port {port}")
    assert ended.code == 2
    assert re.search(rf"127.0.0.1:{port}: Address already in use; choose another.* --port \d+", ended.line)


def test_an_unknown_run_is_refused(besom: Besom, location: Location) -> None:
    for run in ("nothing", "0" * 32, "../../etc"):
        ended = besom(f"reproduce {run}")
        assert ended.code == 2
        assert ended.line.startswith(f"run '{run}' is not in {location.directory}; `besom ui` lists the runs")
    assert statuses(location) == []


def free_port() -> int:
    with socket.socket() as timing:
        timing.bind(("127.0.0.1", 0))
        return int(timing.getsockname()[1])


def statuses(location: Location) -> list[str]:
    """Return the statuses of the recorded runs."""
    with closing(sqlite3.connect(location.database)) as database:
        return sorted(status for (status,) in database.execute("SELECT status FROM runs"))


# Detected by a worker only.


@pytest.fixture
def tables(folder: Path) -> Path:
    write(folder / "good.csv", TABLE)
    write(folder / "text.csv", re.sub(r",\d+$", r",cheap\g<0>", TABLE, flags=re.M).replace("cheap,", "cheap"))
    write(folder / "gap.csv", TABLE.replace("3,3,9\n", "3,,9\n"))
    return folder


def test_a_learning_rate_that_explodes_leaves_a_failed_run(besom: Besom, location: Location, tables: Path) -> None:
    ended = besom(f"train {CSV.format('good.csv')} optimizer=sgd optimizer.lr=1e30")
    assert ended.code == 2
    assert re.search(r"(nan|inf).*; lower optimizer.lr.* \(run \w{32}\)$", ended.line)
    assert statuses(location) == ["FAILED"]


def test_a_table_that_cannot_be_learned_from_leaves_no_run(besom: Besom, location: Location, tables: Path) -> None:
    ended = besom(f"train {CSV.format('gap.csv')}")
    assert ended.code == 2
    assert ended.line.startswith("gap.csv: row 4, column 'age' is missing (1 missing in all); fill it, drop the row")
    assert statuses(location) == []
    assert not list((location.directory / "scratch").iterdir())


def test_data_that_no_trial_can_use_ends_the_sweep_and_it_goes_on_once_they_are_mended(
    besom: Besom, location: Location, tables: Path
) -> None:
    sweep = sweep_file(tables, "tiny").read_text(encoding="utf-8").replace("data: diabetes", "data: csv")
    write(tables / "sweeps/tiny.yaml", sweep + "data: {source: {path: gap.csv, target: price}}\n")
    ended = besom("sweep tiny hydra.sweeper.n_jobs=1")
    assert ended.code == 2
    assert ended.line.startswith("study tiny: gap.csv: row 4, column 'age' is missing")
    assert "FINISHED" not in statuses(location)
    assert "RUNNING" not in statuses(location)
    write(tables / "gap.csv", TABLE)
    mended = besom("sweep tiny hydra.sweeper.n_jobs=1")
    assert mended.code == 0
    assert "2 complete" in mended.out
    assert statuses(location) == ["FINISHED"] * 3  # the study's own run among them


def test_trials_that_fail_are_told_of_at_the_end_and_the_sweep_goes_on(
    besom: Besom, location: Location, tables: Path
) -> None:
    files = "optimizer.lr: 'choice(0.01, 1e30)', data.source.path: 'choice(good.csv, text.csv, gap.csv)'"
    grid = "{_target_: optuna.samplers.GridSampler, search_space: {optimizer.lr: [0.01, 1e30], data.source.path: [%s]}}"
    sweep = sweep_file(tables, "tiny", f"{{{files}}}", more=f"    sampler: {grid % 'good.csv, text.csv, gap.csv'}\n")
    sweep.write_text(
        sweep.read_text(encoding="utf-8").replace("override data: diabetes", "override data: csv")
        + "data: {source: {target: price}}\noptimizer: {}\n",
        encoding="utf-8",
    )
    ended = besom("sweep tiny hydra.sweeper.n_trials=6 optimizer=sgd hydra.sweeper.n_jobs=1")
    assert ended.code == 0, ended
    assert ended.err == ""
    assert "1 complete" in ended.out
    shown = " ".join(ended.out.split())
    assert "2 failed: gap.csv: row 4, column 'age' is missing" in shown
    assert "LinearRegression predicts a number, but data 'text' has" in shown
    assert "lower optimizer.lr" in shown
    assert statuses(location) == ["FAILED"] * 5 + ["FINISHED"] * 2  # the study's own run among them


def test_no_data_set_and_no_network_is_one_line(besom: Besom, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("BESOM_DATA_DIR", str(folder / "data"))
    ended = besom("train data=mnist trainer=cpu tracking=none")
    assert ended.code == 2
    assert re.search(
        r"data/MNIST/raw: .* is missing and could not be downloaded .* point BESOM_DATA_DIR at a folder", ended.line
    )


def test_what_a_users_own_model_raises_is_shown_whole(besom: Besom, location: Location, folder: Path) -> None:
    write(folder / "mine.py", MODEL)
    write(folder / "own/model/mine.yaml", "_target_: mine.Mine\nbroken: true\n")
    ended = besom("train --config-dir own model=mine trainer=cpu")
    assert ended.code == 1
    assert ended.err.startswith("Traceback")
    assert "mine.py" in ended.err
    assert re.search(r"\nbesom: RuntimeError: a mistake of one's own \(run \w{32}\)\n$", ended.err)
    assert statuses(location) == ["FAILED"]


def test_an_objective_that_never_appears_is_one_line_with_those_that_do(besom: Besom, folder: Path) -> None:
    write(folder / "mine.py", MODEL)
    write(folder / "own/model/mine.yaml", "_target_: mine.Mine\n")
    ended = besom("train --config-dir own model=mine trainer=cpu tracking=none objective=val/acc")
    assert ended.code == 2
    assert ended.line == "objective: 'val/acc' is not a metric of this run; use one of val/mine"


def test_a_target_that_does_not_exist_is_one_line(besom: Besom) -> None:
    ended = besom(f"train {TINY} tracking=none optimizer._target_=torch.optim.Adamm")
    assert ended.code == 2
    assert ended.line.startswith("optimizer._target_: torch.optim.Adamm cannot be imported; check the name")


def test_a_worker_that_cannot_start_is_one_line_with_its_last_words(
    besom: Besom, folder: Path, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "broken/torch/__init__.py", "raise ImportError('libcudart.so: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder / "broken"))
    sweep_file(folder, "tiny")
    for command in (f"train {TINY}", "sweep tiny"):
        ended = besom(command)
        assert ended.code == 2
        assert "exited with code 1 before it was ready; its last words: ImportError: libcudart.so: cannot" in ended.line
    assert "RUNNING" not in statuses(location)
