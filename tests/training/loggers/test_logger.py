"""Besom's logger: what modules and callbacks log beside the reports of a trial."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from besom.config.checks import check, resolved
from besom.config.extras.logged import Log
from besom.errors import ConfigError
from besom.training.fit import train
from tests.running import OWN_DATA
from tests.training.test_trainer import Reports

MODULE = '''
import numpy
import PIL.Image

Points.test_dataloader = Points.val_dataloader


class Line(pl.LightningModule):
    """One linear unit: five steps an epoch."""

    def __init__(self, slope=0.0):
        super().__init__()
        self.save_hyperparameters()
        self.unit = torch.nn.Linear(1, 1)

    def training_step(self, batch, _index):
        x, y = batch
        loss = (self.unit(x) - y).square().mean()
        self.log_training(loss)
        return loss

    def log_training(self, loss):
        pass

    def validation_step(self, batch, _index):
        x, y = batch
        self.log("val/loss", (self.unit(x) - y).square().mean())

    def test_step(self, batch, _index):
        self.log("test/loss", 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Both(Line):
    def log_training(self, loss):
        self.log("loss", loss, on_step=True, on_epoch=True)


class Steps(Line):
    def log_training(self, loss):
        self.log("train/loss", loss)


class Shows(Line):
    """Logs whatever there is, at the end of each epoch."""

    def on_train_epoch_end(self):
        experiment, run_id = self.logger.experiment, self.logger.run_id
        self.logger.log_metrics({"direct": torch.tensor(0.5), "parts": {"left": 1, "right": 2}})
        self.logger.log_image("digits", [PIL.Image.new("RGB", (4, 2))], step=7)
        experiment.add_scalar("scalar", 0.25, global_step=40)
        experiment.add_scalars("scalars", {"one": 1.0}, 41)
        experiment.add_image("sample/first", torch.ones(1, 3, 5), self.global_step)
        experiment.add_images("samples", torch.zeros(2, 3, 4, 4), 3)
        experiment.add_text("notes", "well *done*", 5)
        experiment.log_image(run_id, numpy.zeros((6, 8, 3), dtype=numpy.uint8), "pictures/black.png")
        experiment.log_image(numpy.zeros((6, 8)), key="grey", step=2)
        experiment.log_text(run_id, "a text", "texts/one.txt")
        experiment.log_dict(run_id, {"a": [1]}, "one.json")
        experiment.log_dict({"a": [1]}, artifact_file="one.yaml")
        experiment.log_artifact(run_id, __file__, "sources")
        experiment.log_metric(run_id, "metric", 2.0, step=3)
        experiment.log_param(run_id, "chosen", "by hand")
        experiment.set_tag(run_id, "mood", "good")
        open(self.logger.log_dir + "/free.txt", "w").close()


class Diverges(Line):
    def log_training(self, loss):
        raise ValueError("no luck")


class Run:
    """A run of a service, which writes down what happens to it."""

    def __init__(self, path):
        self.path = path

    def write(self, text):
        with open(self.path, "a") as file:
            print(text, file=file)

    def finish(self, exit_code):
        self.write(f"finished with {exit_code}")


class WandbLogger(pl.loggers.logger.Logger):
    name = version = ""

    def __init__(self, path):
        super().__init__()
        self._experiment = Run(path)

    def log_metrics(self, metrics, step=None):
        self._experiment.write(", ".join(metrics))

    def log_hyperparams(self, params):
        pass


class Mine(WandbLogger):
    pass


class AnswersAll(pl.loggers.logger.DummyLogger):
    pass


class Asks(Line):
    def on_fit_start(self):
        assert not hasattr(self.logger.experiment, "add_embedding")
        eval(self.hparams.slope)
'''

Train = Callable[..., Reports]


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    for module, package in (("usual_lines", "pytorch_lightning"), ("other_lines", "lightning.pytorch")):
        source = (OWN_DATA + MODULE).replace("import pytorch_lightning", f"import {package}")
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def train_line(model: str | None, *overrides: str, **keys: object) -> Reports:
        config = compose("trainer.max_epochs=2", "threads=1", "trainer=cpu", *overrides)
        if model is not None:
            module = model.partition(".")[0]
            config.data = OmegaConf.create({"_target_": f"{module}.Points", "rows": 40})
            config.model = OmegaConf.create({"_target_": model, **keys})
        check(config)
        (tmp_path / "trial").mkdir()
        reports = Reports()
        train(resolved(config), channel=reports, directory=tmp_path / "trial")
        return reports

    return train_line


@pytest.mark.parametrize("package", ["usual", "other"])
def test_what_is_logged_by_step_is_recorded_by_step_as_often_as_the_trainer_says(run: Train, package: str):
    reports = run(f"{package}_lines.Both", "+trainer.log_every_n_steps=2")
    losses = dict(reports.points("loss_step"))
    assert list(losses) == [1, 3, 4, 5, 7, 9]  # every other one, and the last before each report
    assert losses[9] == reports[2]["loss_step"]
    assert [value for _, value in reports.points("epoch")] == [0, 0, 0, 1, 1, 1]
    assert {name for log in reports.logs for point in log.points for name in point.metrics} == {"loss_step", "epoch"}


def test_a_metric_that_is_logged_by_step_only_has_its_name(run: Train):
    reports = run("usual_lines.Steps")
    assert [(4, reports[1]["train/loss"]), (9, reports[2]["train/loss"])] == reports.points("train/loss")


def test_an_objective_is_recorded_by_report_and_its_steps_under_another_name(run: Train):
    reports = run("usual_lines.Steps", "objective=train/loss", "+trainer.log_every_n_steps=1")
    assert not reports.points("train/loss")
    assert [step for step, _ in reports.points("train/loss_step")] == list(range(10))


def test_a_trial_that_logs_nothing_by_step_sends_no_metrics(run: Train):
    reports = run("usual_lines.Line", "test=true", slope=0.5)
    assert reports.logs == [Log(params={"slope": "0.5"})]


def test_images_texts_files_metrics_params_and_tags_arrive(run: Train, tmp_path: Path):
    reports = run("usual_lines.Shows")
    folder = tmp_path / "trial"
    expected = {"direct": 10, "parts/left": 10, "scalar": 40, "scalars/one": 41, "metric": 3}
    assert {name: reports.points(name)[-1][0] for name in expected} == expected
    params = {name: value for log in reports.logs for name, value in log.params.items()}
    assert params == {"slope": "0.0", "chosen": "by hand"}
    assert reports.logs[-1].tags == {"mood": "good", "mlflow.loggedImages": "true"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "texts/notes/5.md", "pictures/black.png", "texts/one.txt", "one.json", "one.yaml", "sources/usual_lines.py",
        ".work/free.txt",
    } <= files  # fmt: skip
    shown = {
        (*name.removeprefix("images/").split("%")[:3:2], name[-4:]) for name in files if name.startswith("images/")
    }
    assert {("digits", "7", ".png"), ("grey", "2", ".png"), ("samples#0", "3", ".png")} <= shown
    assert {("sample#first", "5", ".png"), ("sample#first", "10", "webp")} <= shown
    sample = next((folder / "images").glob("sample#first%*.png"))
    assert (Image.open(sample).size, Image.open(folder / "pictures/black.png").size) == ((5, 3), (8, 6))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("self.logger.experiment.add_histogram('w', 1)", r"^self\.logger\.experiment\.add_histogram: .*logger=tensorb"),
        ("self.logger.watch(self)", r"^self\.logger\.watch: Besom's logger has [^\n]*log_image"),
        ("self.logger.experiment.log_text('x', 'config.yaml')", r"log_text: config\.yaml is the name of an artifact"),
        ("self.logger.experiment.log_text('x', '../up.txt')", r"log_text: '\.\./up\.txt' is no path within"),
        ("self.logger.experiment.log_artifact('none.txt')", r"log_artifact: none\.txt: no such file"),
        ("self.logger.experiment.set_tag('besom.trial', '7')", r"set_tag: besom\.trial has the prefix of"),
        ("self.logger.experiment.add_image('x', torch.ones(5))", r"add_image: CHW does not name the 1 dimensions"),
        ("self.logger.experiment.log_image(torch.ones(5), 'x.png')", r"log_image: 5 is no image"),
        ("self.logger.log_metrics({'a': 'b'})", r"^self\.logger: the metric 'a' is no number but a str"),
    ],
)
def test_what_the_logger_cannot_do_is_refused_by_name_in_one_line(run: Train, statement: str, message: str):
    with pytest.raises(ConfigError, match=message):
        run("usual_lines.Asks", slope=statement)


def test_the_learning_rate_monitor_needs_no_other_logger_and_leaves_besoms_loop(run: Train):
    reports = run(None, "callbacks=lr_monitor", "model.width=8", "model.depth=1")
    assert reports.about["loop"] == "besom"
    assert [step for step, _ in reports.points("lr-Adam")] == [0, 17]


def test_a_logger_of_the_config_comes_first_and_mlflows_is_besoms_own(run: Train, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^CSVLogger then BesomLogger$"):
        run("usual_lines.Asks", "logger=csv", slope=NAMES)
    (tmp_path / "trial").rename(tmp_path / "first")
    mlflow = "+logger.mlflow={_target_: pytorch_lightning.loggers.mlflow.MLFlowLogger, tags: {mood: good}}"
    with pytest.raises(ConfigError, match=r"^BesomLogger then CSVLogger$"):
        run("usual_lines.Asks", mlflow, "+logger.csv={_target_: pytorch_lightning.loggers.CSVLogger}", slope=NAMES)


def test_a_logger_that_answers_to_any_name_is_taken_as_it_is(run: Train):
    assert max(run("usual_lines.Line", "+logger.all={_target_: usual_lines.AnswersAll}")) == 2


@pytest.mark.parametrize(
    ("model", "lines"),
    [("Line", ["val/loss, epoch", "test/loss, epoch", "finished with 0"]), ("Diverges", ["finished with 1"])],
)
def test_the_run_of_a_service_ends_with_its_trial(run: Train, tmp_path: Path, model: str, lines: list[str]):
    mine = f"+logger.mine={{_target_: usual_lines.Mine, path: {tmp_path}/run}}"
    with pytest.raises(ValueError, match="no luck") if model == "Diverges" else nullcontext():
        run(f"usual_lines.{model}", mine, "test=true", "trainer.max_epochs=1")
    assert (tmp_path / "run").read_text(encoding="utf-8").splitlines() == lines


NAMES = """exec('''
from besom.errors import ConfigError
raise ConfigError(" then ".join(type(logger).__name__ for logger in self.trainer.loggers))
''')"""
