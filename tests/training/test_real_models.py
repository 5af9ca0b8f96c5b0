"""LightningModules as their users write them: each trains, and its best weights are recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import nn

from besom.config.checks import check, resolved
from besom.data.dataset import DataSpec
from besom.errors import ConfigError
from besom.models import SupervisedModule
from besom.models.saved import load
from besom.training.fit import build_model, train
from besom.training.progress import Moment
from besom.training.result import TrialResult
from tests.training import real_models
from tests.training.test_trainer import Reports

MODELS = "tests.training.real_models"
WEIGHTS = {f"module.network.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


@pytest.fixture
def config(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    def make(target: str, *overrides: str, **model: Any) -> DictConfig:
        config = compose("trainer.max_epochs=3", "threads=1", "trainer=cpu", "test=true", *overrides)
        config.data = OmegaConf.create({"_target_": f"{MODELS}.Points"})
        config.model = OmegaConf.create({"_target_": f"{MODELS}.{target}", **model})
        return config

    return make


Config = Callable[..., DictConfig]


def run(config: DictConfig, folder: Path) -> tuple[TrialResult, Reports, dict[str, torch.Tensor]]:
    check(config)
    folder.mkdir()
    reports = Reports()
    result = train(resolved(config), channel=reports, directory=folder)
    return result, reports, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "model",
    [
        "TwoOptimizers", "OneCycle", "Plateau", "Compiled", "MetricObjects", "WritesCheckpoints", "Tied", "Lazy",
        "ExtraState", "FrozenBackbone",
    ],
)  # fmt: skip
def test_a_users_module_trains_and_its_best_weights_are_recorded_and_tested(config: Config, tmp_path: Path, model: str):
    result, reports, weights = run(config(model, "callbacks=checkpoint"), tmp_path / "trial")
    losses = {epoch: metrics["val/loss"] for epoch, metrics in reports.items()}
    assert result.values == (min(losses.values()),)
    assert result.summary["test/loss"] == pytest.approx(result.values[0], rel=1e-6)  # of the weights that were restored
    assert weights.keys() >= WEIGHTS
    network = real_models.Classifier().network
    state = {name.removeprefix("module.network."): value for name, value in weights.items() if name in WEIGHTS}
    assert not network.load_state_dict(state).missing_keys


def test_a_module_that_is_compiled_as_a_whole_trains(config: Config, tmp_path: Path):
    short = ("trainer.max_epochs=1", "test=false", "+trainer.num_sanity_val_steps=0")
    _, reports, weights = run(config("whole_compiled", *short), tmp_path / "trial")
    assert "val/loss" in reports[1]
    assert weights.keys() == WEIGHTS


def test_a_schedule_by_step_and_one_that_watches_a_metric_are_followed(config: Config, tmp_path: Path):
    _, by_step, _ = run(config("OneCycle"), tmp_path / "one")
    _, plateau, _ = run(config("Plateau"), tmp_path / "other")
    rates: list[Mapping[int, float]] = [{epoch: each["lr"] for epoch, each in by.items()} for by in (by_step, plateau)]
    assert rates[0][1] == pytest.approx(0.1, rel=0.05)  # the top of the cycle
    assert rates[0][3] < 1e-3
    assert [rates[1][epoch] for epoch in (1, 2, 3)] == pytest.approx([1e-3, 1e-4, 1e-5])


def test_a_schedule_that_watches_a_metric_that_never_comes_is_refused_in_one_line(config: Config, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^trainer: [^\n]*val/nonsense[^\n]*val/loss[^\n]*$"):
        run(config("Plateau", monitor="val/nonsense"), tmp_path / "trial")


def test_a_network_that_is_built_later_is_counted_once_it_is_there(config: Config, tmp_path: Path):
    result, reports, weights = run(config("BuiltLater"), tmp_path / "trial")
    assert result.summary["cost/params"] == 10
    assert "parameters" not in reports.about
    assert set(weights) == {"module.network.weight", "module.network.bias"}


def test_an_optimizer_among_a_models_own_keys_has_precedence_over_the_config_group(config: Config, tmp_path: Path):
    own = {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.25}}
    assert run(config("Template", **own), tmp_path / "own")[1][1]["lr"] == 0.25
    assert run(config("Template", "optimizer.lr=0.5"), tmp_path / "group")[1][1]["lr"] == 0.5


def test_a_compiled_module_is_compiled_in_each_trial_of_a_worker(config: Config, tmp_path: Path):
    usual = ("trainer.max_epochs=1", "test=false", "+trainer.num_sanity_val_steps=0")
    with torch._dynamo.config.patch(recompile_limit=4):  # after that many, torch.compile leaves a class uncompiled
        for number in range(4):
            torch._dynamo.utils.counters.clear()
            run(config("Compiled", *usual, width=8 + number), tmp_path / str(number))
            assert "unimplemented" not in torch._dynamo.utils.counters


class CompiledNet(SupervisedModule):
    """A network on Besom's data that is compiled."""

    def __init__(self, spec: DataSpec, optimizer: Any) -> None:
        network = nn.Sequential(nn.Linear(spec.in_features, 4), nn.Tanh(), nn.Linear(4, spec.out_features))
        super().__init__(torch.compile(network, backend="eager"), spec=spec, optimizer=optimizer)  # type: ignore[arg-type]


class PlainNet(CompiledNet):
    """The same, uncompiled."""

    def __init__(self, spec: DataSpec, optimizer: Any) -> None:
        super().__init__(spec, optimizer)
        self.network = self.network._orig_mod  # type: ignore[assignment]


def test_weights_of_a_compiled_network_load_into_a_compiled_and_an_uncompiled_one(config: Config, tmp_path: Path):
    trained = config("Classifier")
    digits = {"_target_": "besom.data.sources.digits"}
    trained.data = OmegaConf.create({"_target_": "besom.data.InMemoryDataModule", "source": digits})
    trained.model = {"_target_": f"{__name__}.CompiledNet"}
    run(trained, tmp_path / "trial")
    x = torch.rand(3, 64)
    compiled, plain = (
        load(tmp_path / "trial", {"_target_": f"{__name__}.{name}"}).predict(x) for name in ("CompiledNet", "PlainNet")
    )
    assert torch.equal(compiled, plain)


def test_large_best_weights_wait_in_a_file_of_the_trials_folder(config: Config, tmp_path: Path):
    class Watching(Reports):
        def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
            super().report(moment, metrics)
            waiting.append([path.name for path in tmp_path.rglob(".best*")])

    waiting: list[list[str]] = []
    for folder, size in (("file", 0), ("memory", 1)):
        (tmp_path / folder).mkdir()
        keep = f"best_weights_in_memory_mb={size}"
        train(resolved(config("Tied", keep)), channel=Watching(), directory=tmp_path / folder)
    assert waiting == [[], *[[".best-weights-of-rank-0"]] * 2, *[[]] * 3]
    file, memory = (load_file(tmp_path / folder / "model.safetensors") for folder in ("file", "memory"))
    assert all(torch.equal(file[name], memory[name]) for name in memory)
    assert not list(tmp_path.rglob(".best*"))


def test_a_target_that_returns_no_module_is_refused(config: Config):
    with pytest.raises(ConfigError, match=r"^model\._target_: torch\.nn\.Identity is not a LightningModule"):
        build_model(
            {**resolved(config("Classifier")), "model": {"_target_": "torch.nn.Identity"}}, real_models.Points()
        )
