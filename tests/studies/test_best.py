"""`besom best`: the best trial's config as an experiment that trains exactly that config."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext
from optuna.trial import TrialState

from besom.cli import main
from besom.cli.hydra_main import train_task
from besom.config.paths import conf_dir, sweeps_dir
from besom.hydra_app.app import swept_app
from besom.reports.read.finalists import FinalistRun
from besom.sweep.compose import Composer
from besom.sweep.run import run_sweep
from besom.sweep.space.parser import SpaceParser
from besom.tracking.tags import StudyAttribute
from besom.workers.messages import Assignment, Message
from tests.conftest import App
from tests.fakes import FakeLauncher, finishing

HERE = "sqlite:///mlruns/optuna.db"
SWEEPS = sorted(path.stem for path in sweeps_dir().glob("*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _no_studies: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(_no_studies, "mlruns")


def record(*trials: list[str], name: str = "own", source: str = "digits.yaml", **attrs: Any) -> optuna.Study:
    """Create a study of val/acc whose trials had these overrides, each better than the one before."""
    study = optuna.create_study(study_name=name, storage=HERE, direction="maximize")
    study.set_user_attr("besom.spec", {"objectives": [["val/acc", "maximize"]], "fixed": [], "source": source})
    for key, value in attrs.items():
        study.set_user_attr(f"besom.{key}", value)
    for index, overrides in enumerate(trials):
        study.add_trial(optuna.create_trial(value=index / 10, user_attrs={"besom.overrides": overrides}))
    return study


class Besom:
    """Runs `besom` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str, *, code: int = 0) -> tuple[str, str]:
        assert main(shlex.split(line)) == code
        out, err = self._capsys.readouterr()
        return out, err

    def config(self, line: str) -> dict[str, Any]:
        """The config that a command would train."""
        out, err = self(f"{line} --cfg job")
        assert err == ""
        return dict(yaml.safe_load(out))


@pytest.fixture
def besom(capsys: pytest.CaptureFixture[str]) -> Besom:
    return Besom(capsys)


def command_of(out: str) -> str:
    """Return the command that `--save` prints, without `besom`."""
    return out.strip().rpartition("train it: besom ")[2]


def assert_exact(besom: Besom, overrides: list[str], *, sweep: str = "digits") -> str:
    """Check that the saved experiment composes to the trial's config; return its text."""
    out, err = besom("best own --save winner")
    assert err == ""
    trained = besom.config(command_of(out))
    swept = besom.config(shlex.join(["sweep", sweep, *overrides]))
    assert trained == swept
    assert list(map(repr, trained.values())) == [repr(swept[key]) for key in trained]
    return Path("conf/experiment/winner.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_saved_best_trains_exactly_what_a_trial_of_a_shipped_sweep_trained(
    besom: Besom, sweep: str, load_app: Callable[..., App]
) -> None:
    loader, config = load_app(sweeps_dir(), sweep)
    keys = config.hydra.sweeper
    fixed_line = ["trainer.max_epochs=3", "seed=7"]
    parser = SpaceParser(loader, source=f"{sweep}.yaml", arguments=fixed_line)
    space, fixed = parser.space(keys.params, keys.when, custom=None, config=config)
    sampled = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=4))
    overrides = [Composer(loader, config, fixed).overrides(space.sample(sampled.ask())) for _ in range(3)]
    record(*overrides, source=f"{sweep}.yaml")
    text = assert_exact(besom, overrides[-1], sweep=sweep)
    assert text.startswith(
        "# @package _global_\n# besom train experiment=winner        trial 2 of study own: val/acc 0.2000\n"
    )
    assert "defaults:\n  - override /data: " in text
    assert "tracking" not in text
    assert "hydra" not in text


def test_of_a_study_with_finalists_it_is_the_winners_config_with_what_they_got_on_top(besom: Besom) -> None:
    study = record(["optimizer.lr=0.1"], ["optimizer.lr=0.2"])
    study.set_user_attr(
        StudyAttribute.FINALISTS, {"trials": [1, 0], "seeds": [5], "overrides": {"trainer.max_epochs": 7}}
    )
    for trial, value in ((0, 0.9), (1, 0.8)):
        assert "lr: 0.2" in besom("best own")[0]
        run = FinalistRun(trial=trial, seed=5, run_id="", metrics={"best/val/acc": value})
        study.set_user_attr(run.key, run.plain())
    text = assert_exact(besom, ["optimizer.lr=0.1", "trainer.max_epochs=7"])
    assert "trial 0 of study own: val/acc 0.0000; it won among the finalists, with trainer.max_epochs=7\n" in text
    assert "max_epochs: 7" not in besom("best own --trial 0")[0]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp_classifier", "model.hidden_sizes=[64,32]", "optimizer.lr=1e-05", "scheduler=cosine"],
        ["model=logistic_regression", "+trainer.gradient_clip_val=1.0", "optimizer=sgd"],
        ["+trainer.accumulate_grad_batches=2", "++trainer.max_epochs=4", "data.limit=100"],
        ["experiment=mnist_ann", "optimizer.lr=0.5"],
        ["data=csv", "data.source.path='a, b.csv'", "data.source.target='yes'", "data.batch_size=null"],
        ["data.scaling={mean:0.5,std:0.25}", "early_stopping.patience=3", "objective=val/loss", "direction=minimize"],
        ["tracking=none", "trainer=cpu", "threads=2", "test=true"],
    ],
)
def test_any_override_of_a_trial_is_in_the_experiment_or_in_its_command(besom: Besom, overrides: list[str]) -> None:
    record(overrides)
    out, err = besom("best own --save winner")
    assert err == ""
    trained, swept = besom.config(command_of(out)), besom.config(shlex.join(["sweep", "digits", *overrides]))
    del trained["tracking"], swept["tracking"]  # where to record is for who trains to say
    assert trained == swept


def test_what_is_printed_is_what_is_saved(besom: Besom) -> None:
    record(["optimizer.lr=0.5"])
    out, _ = besom("best own")
    besom("best own --save winner")
    assert Path("conf/experiment/winner.yaml").read_text(encoding="utf-8") == out.replace("=NAME", "=winner")


def test_it_has_the_form_of_the_shipped_experiments(besom: Besom) -> None:
    record(["model=logistic_regression", "optimizer=sgd", "optimizer.lr=0.5"])
    out, _ = besom("best own")
    assert out.splitlines() == [
        "# @package _global_",
        "# besom train experiment=NAME        trial 0 of study own: val/acc 0.0000",
        "defaults:",
        "  - override /data: digits",
        "  - override /model: logistic_regression",
        "  - override /optimizer: sgd",
        "",
        "objective: val/acc",
        "direction: maximize",
        "optimizer:",
        "  lr: 0.5",
        "trainer:",
        "  max_epochs: 20",
    ]


def test_the_best_is_taken_or_the_trial_that_is_named(besom: Besom) -> None:
    record(["seed=1"], ["seed=2"], ["seed=3"])
    assert "trial 2 of study own" in besom("best own")[0]
    out, _ = besom("best own --trial 0")
    assert "trial 0 of study own" in out
    assert yaml.safe_load(out)["seed"] == 1


def test_a_failed_trial_can_be_named_to_look_into_it(besom: Besom) -> None:
    study = record(["seed=1"])
    attrs = {"besom.overrides": ["seed=5"]}
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs=attrs))
    out, _ = besom("best own --trial 1")
    assert "trial 1 of study own: FAIL" in out


def test_a_trial_that_breaks_a_constraint_is_not_the_best(besom: Besom) -> None:
    study = record(["seed=1"])
    better = optuna.create_trial(value=1.0, user_attrs={"besom.overrides": ["seed=5"]})
    better.system_attrs = {"constraints:cost/params <= 100": 1.0}
    study.add_trial(better)
    assert "trial 0 of study own" in besom("best own")[0]


def test_an_experiment_that_exists_is_not_overwritten(besom: Besom) -> None:
    record(["seed=1"])
    besom("best own --save winner")
    before = Path("conf/experiment/winner.yaml").read_text(encoding="utf-8")
    _, err = besom("best own --save winner", code=2)
    assert err == "besom: --save: conf/experiment/winner.yaml exists; choose another name, or move it away\n"
    assert Path("conf/experiment/winner.yaml").read_text(encoding="utf-8") == before


def test_in_a_checkout_the_command_needs_no_config_dir(besom: Besom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf_dir().parent)
    assert main(["best", "--help"]) == 0
    from besom.studies.best import train_command

    assert train_command("winner", (), Path("conf")) == "besom train experiment=winner"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("best owm", "study 'owm' does not exist; did you mean own? (use one of own)"),
        ("best own --trial 7", "study 'own' has no trial 7 with parameters; it has 1 trials"),
        ("best own --save ../winner", "--save: '../winner' is no name of an experiment; use letters, digits, _ and -"),
        ("best own --sweep nowhere", "sweep 'nowhere' does not exist"),
        ("best", "best: the following arguments are required: STUDY"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(besom: Besom, line: str, told: str) -> None:
    record(["seed=1"])
    _, err = besom(line, code=2)
    assert err.startswith(f"besom: {told}")
    assert err.count("\n") == 1
    assert not Path("conf").exists()


def test_a_study_without_a_complete_trial_says_so(besom: Besom) -> None:
    record()
    assert "has no complete trial yet" in besom("best own", code=2)[1]


def test_a_choice_that_is_gone_is_told_in_one_line(besom: Besom) -> None:
    record(["model=transformer"])
    _, err = besom("best own", code=2)
    assert "transformer" in err
    assert err.count("\n") == 1


# The sweep file.


def test_ones_own_sweep_and_configs_are_found(besom: Besom) -> None:
    Path("own/model").mkdir(parents=True)
    Path("own/sweeps").mkdir()
    Path("own/model/wide.yaml").write_text("_target_: net.Wide\nwidth: 512\n", encoding="utf-8")
    Path("own/sweeps/mine.yaml").write_text(
        "defaults: [train, override model: wide, _self_]\nseed: 9\n", encoding="utf-8"
    )
    record(["model.width=64"], source="mine.yaml")
    config = yaml.safe_load(besom("best own --config-dir own")[0])
    assert (config["model"], config["seed"]) == ({"width": 64}, 9)
    assert "override /model: wide" in besom("best own --config-dir own")[0]
    out, _ = besom("best own --config-dir own --save winner")
    assert besom.config(command_of(out))["model"] == {"_target_": "net.Wide", "width": 64}


def test_where_the_sweep_file_is_not_found_the_overrides_are_printed_and_why(besom: Besom) -> None:
    record(["model=mlp_classifier", "tracking.experiment='a b'"], source="gone.yaml")
    out, err = besom("best own")
    assert shlex.split(out) == ["model=mlp_classifier", "tracking.experiment='a b'"]
    assert err == (
        "besom: warning: gone.yaml was not found here, so these are the trial's overrides alone; add the "
        "sweep's --config-dir DIR, or --sweep FILE\n"
    )
    assert "override /data: digits" in besom("best own --sweep digits")[0]
    assert "was not found here" in besom("best own --save winner", code=2)[1]


def test_a_sweep_file_that_has_changed_since_is_told(besom: Besom) -> None:
    Path("sweeps").mkdir()
    shutil.copy(sweeps_dir() / "digits.yaml", "sweeps/mine.yaml")
    began = {"trainer.max_epochs": "20", "data.batch_size": "64", "optimizer.lr": "0.001", "seed": "0"}
    record(["optimizer.lr=0.5", "seed=3"], source="mine.yaml", config=began)
    assert besom("best own")[1] == ""
    text = Path("sweeps/mine.yaml").read_text(encoding="utf-8")
    Path("sweeps/mine.yaml").write_text(text.replace("max_epochs: 20", "max_epochs: 30"), encoding="utf-8")
    changed = "besom: warning: its sweep file has changed since"
    assert besom("best own")[1] == f"{changed} the study began: trainer.max_epochs was 20, is 30\n"
    later = ["optimizer.lr=0.1"]
    study = record(
        later, later, name="second", source="mine.yaml", config=began,
        configs=[{"trainer.max_epochs": "30"}, {"trainer.max_epochs": "5"}],
    )  # fmt: skip
    for config in (2, 3):
        made = optuna.create_trial(value=config, user_attrs={"besom.overrides": later, "besom": {"config": config}})
        study.add_trial(made)
    assert besom("best second --trial 2")[1] == ""
    assert besom("best second")[1] == f"{changed} the trial was trained: trainer.max_epochs was 5, is 30\n"


def test_for_another_hydra_app_the_arguments_of_one_job_are_printed(besom: Besom) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/app.yaml").write_text("x: 1\nname: a\n", encoding="utf-8")
    record(["x=0.5", "name='a b'"], source="app.yaml")
    out, err = besom("best own")
    assert err == ""
    assert out == "--config-dir=mlruns/best --config-name=besom_best_own_0 x=0.5 hydra.mode=RUN\n"
    assert yaml.safe_load(Path("mlruns/best/besom_best_own_0.yaml").read_text()) == {
        "defaults": ["app", "_self_"],
        "name": "a b",
    }
    assert "of another Hydra app" in besom("best own --save theirs", code=2)[1]


# The whole path: the study of a sweep, and the config that its worker received.

SWEEP = """
defaults: [train, override data: digits, override trainer: cpu, override hydra/sweeper: besom, _self_]
objective: val/acc
direction: maximize
hydra:
  sweeper:
    n_trials: 4
    params: {model: "choice(logistic_regression, mlp_classifier)", optimizer.lr: "interval(1e-3, 1e-1)"}
    when:
      model=mlp_classifier: {model.hidden_sizes: "choice([8], [16, 16])"}
"""


def test_the_best_of_a_sweep_is_what_its_worker_was_given(
    besom: Besom, load_app: Callable[..., App], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(SWEEP, encoding="utf-8")
    loader, config = load_app(
        Path("sweeps").absolute(),
        "mine",
        "trainer.max_epochs=3",
        "trainer.gradient_clip_val=0.5",
        "tracking.enabled=false",
    )
    given: dict[float, dict[str, Any]] = {}

    def play(assignment: Assignment) -> Iterator[Message]:
        given[assignment.config["optimizer"]["lr"]] = dict(assignment.config)
        yield from finishing(assignment)  # its objective is its learning rate

    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    run_sweep(swept_app(config, config.hydra.overrides.task, context, train_task, launcher=FakeLauncher(play)))
    capsys.readouterr()

    assert "complete" in besom("studies")[0]
    out, err = besom("best mine --save winner")
    assert err == ""
    assert command_of(out).endswith("experiment=winner")
    trained = besom.config(f"{command_of(out)} --resolve")
    best = given[max(given)]
    # The slot is the worker's, and whoever trains chooses the store.
    for key in ("tracking", "threads"):
        del trained[key], best[key]
    assert trained == best
