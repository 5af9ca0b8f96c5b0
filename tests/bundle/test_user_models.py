"""Models of a user's own: which of them share a stack, and that all of them come to what they come to alone."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from besom.bundle.compatibility import bundle_key
from besom.bundle.member import Member
from besom.bundle.user_models import Measure, keeps_training_loop, measured
from besom.data.dataset import Source, Task
from besom.errors import TrialFailed, TrialPruned
from besom.models.saved import load
from besom.tracking.store import Location
from besom.training.fit import build_data
from besom.training.result import TrialResult
from besom.workers.messages import Assignment, Bundle
from besom.workers.tasks import Training
from tests.bundle.trials import (
    Config,
    End,
    Talk,
    alone,
    assert_same,
    changed,
    optimizer,
    scheduler,
    together,
)
from tests.forking import run

Base = Callable[..., Config]

SGD = optimizer("SGD", lr=0.01)
HEAVY = optimizer("SGD", lr=0.005, momentum=0.9, nesterov=True, weight_decay=1e-3)
ADAM = optimizer("Adam", lr=0.005)
ADAMW = optimizer("AdamW", lr=0.005, weight_decay=0.1, betas=[0.8, 0.99])
RMSPROP = optimizer("RMSprop", lr=0.001, momentum=0.5)
ADAGRAD = optimizer("Adagrad", lr=0.02, lr_decay=0.01)
WILD = optimizer("SGD", lr=1e30)


class CalledOff(Talk):
    """Of a trial that is stopped before anything is said of it."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        return True


def own(kind: str, **keys: object) -> Config:
    return {"_target_": f"tests.bundle.own_models.{kind}", **keys}


def costing(*, alone: float, together: float) -> Measure:
    """The costs of an unbundled member, and of a member in a stack."""

    def costs(parts: Sequence[slice]) -> list[float]:
        counts = [part.stop - part.start for part in parts]
        return [count * (together if count > 1 else alone) for count in counts]

    return lambda members, data: costs


def shared(configs: Sequence[Config], folder: Path, talks: dict[int, Talk] | None = None) -> list[End]:
    """Return the ends of trials trained as a bundle, where stacks always pay."""
    return together(configs, folder, talks, measure=costing(alone=2, together=1))


def sizes(ends: Sequence[End]) -> list[int]:
    """Of each trial, how many it shared a stack with, itself included."""
    return [end.talk.about.get("bundle", 1) for end in ends]


def variety(common: Config, **model: object) -> list[Config]:
    """Trials of one architecture with little else in common."""
    kinds = [
        {"optimizer": SGD, "model": {**model, "gradient_clip_norm": 0.5}},
        {"optimizer": HEAVY, "model": {**model, "gradient_clip_norm": 5.0},
         "scheduler": scheduler("CosineAnnealingLR", T_max=9)},
        {"optimizer": ADAM, "early_stopping": {"patience": 1, "min_delta": 0.02}},
        {"optimizer": ADAMW},
        {"optimizer": RMSPROP, "scheduler": scheduler("StepLR", step_size=2, gamma=0.3)},
        {"optimizer": ADAGRAD, "scheduler": scheduler("ReduceLROnPlateau", patience=0, factor=0.5, threshold=0.2)},
        {"optimizer": optimizer("Adam", lr=0.005, amsgrad=True)},
    ]  # fmt: skip
    return [changed(common, seed=seed, **{"model": model, **kind}) for seed, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("digits", own("Residual")),
        ("digits", own("ConvNet")),
        ("digits", own("Fourier")),  # each with random features of its own
        ("breast_cancer", own("Residual", width=8)),
        ("diabetes", own("Residual", depth=1)),
    ],
)
def test_networks_of_one_architecture_share_a_stack_and_come_to_what_they_come_to_alone(
    base: Base, tmp_path: Path, data: str, model: Config
):
    configs = variety(changed(base(data), trainer={"max_epochs": 9}), **model)  # 54 steps
    ends = shared(configs, tmp_path)
    assert sizes(ends) == [7] * 7
    for end, config in zip(ends, configs, strict=True):
        assert_same(end, alone(config, tmp_path))
        assert isinstance(end.came_to, TrialResult)


def test_trials_that_differ_in_nothing_but_the_seed_start_and_end_apart(base: Base, tmp_path: Path):
    ends = shared([changed(base(), seed=seed, model=own("Residual")) for seed in range(3)], tmp_path)
    assert sizes(ends) == [3, 3, 3]
    assert len({end.talk.epochs[0]["val/loss"] for end in ends}) == 3
    assert len({end.outcome.values for end in ends}) == 3


def test_networks_are_grouped_by_their_shapes_and_whoever_is_left_trains_alone(base: Base, tmp_path: Path):
    models = [own("Residual", width=width, slope=slope) for width, slope in
              [(8, 0.01), (16, 0.01), (8, 0.01), (24, 0.01), (16, 0.01), (16, 0.2)]]  # fmt: skip
    configs = [changed(base(), seed=seed, model=model) for seed, model in enumerate(models)]
    assert len({bundle_key(config) for config in configs} - {None}) == 1
    ends = shared(configs, tmp_path)
    assert sizes(ends) == [2, 2, 2, 1, 2, 1]
    for end, config in zip(ends, configs, strict=True):
        assert_same(end, alone(config, tmp_path))


@pytest.mark.parametrize(
    "model",
    [
        own("Residual", dropout=0.2),
        own("Residual", batch_norm=True),
        *map(own, ("OwnStep", "OwnForward", "OwnLoss", "OwnOptimizer")),
        *map(own, ("Hooked", "Frozen", "Spare", "Noisy", "Warming", "Gated")),
    ],
    ids=str,
)
def test_what_a_stack_would_do_otherwise_trains_alone_to_the_last_bit(base: Base, tmp_path: Path, model: Config):
    configs = [changed(base(), seed=seed, model=model) for seed in range(2)]
    assert len({bundle_key(config) for config in configs} - {None}) == 1, "nobody knows before it is looked at"
    ends = shared(configs, tmp_path)
    assert sizes(ends) == [1, 1]
    for end, config in zip(ends, configs, strict=True):
        unbundled = alone(config, tmp_path)
        assert isinstance(end.came_to, TrialResult)
        assert (end.talk.epochs, end.came_to, end.files) == (unbundled.talk.epochs, unbundled.came_to, unbundled.files)


@pytest.mark.parametrize(("cost", "size"), [(1.1, 1), (0.9, 1), (0.7, 2)])
def test_a_stack_that_saves_too_little_is_not_used(base: Base, tmp_path: Path, cost: float, size: int):
    configs = [changed(base(), seed=seed, model=own("ConvNet")) for seed in range(2)]
    assert sizes(together(configs, tmp_path, measure=costing(alone=1, together=cost))) == [size, size]


def test_what_lanes_cost_is_measured_and_leaves_them_as_they_are(base: Base, tmp_path: Path):
    config = changed(base(), model=own("Residual"))
    data = build_data(config)
    members = [Member(trial, config, data, Talk(), tmp_path) for trial in range(3)]
    before = [copy.deepcopy(member.network.state_dict()) for member in members]
    assert all(cost > 0 for cost in measured(members, data)([slice(0, 1), slice(0, 3)]))
    for member, weights in zip(members, before, strict=True):
        torch.testing.assert_close(member.network.state_dict(), weights, rtol=0, atol=0)


def test_trials_that_are_called_off_while_others_train_never_begin(base: Base, tmp_path: Path):
    models = [own("Residual"), own("Residual"), own("Residual", width=8), own("Residual", width=8), own("Given")]
    configs = [changed(base(), seed=seed, model=model) for seed, model in enumerate(models)]
    told = {trial: CalledOff() for trial in (1, 2, 3, 4)}
    ends = shared(configs, tmp_path, told)
    assert_same(ends[0], alone(configs[0], tmp_path))
    assert all(isinstance(end.came_to, TrialPruned) and not end.talk.about for end in ends[1:])


def random_points() -> Source:
    """Data that hang on the seed of the trial."""
    return Source(
        name="points", task=Task.REGRESSION, x=torch.randn(60, 3), y=torch.randn(60), feature_names=("a", "b", "c")
    )


def test_where_the_data_hang_on_the_seed_each_trial_has_its_own(base: Base, tmp_path: Path):
    common = changed(base("diabetes"), model=own("Given"), data={"limit": None})
    common["data"]["source"] = {"_target_": f"{__name__}.random_points"}
    configs = [changed(common, seed=seed) for seed in range(2)]
    ends = shared(configs, tmp_path)
    assert sizes(ends) == [1, 1]
    assert [end.talk.epochs for end in ends] == [alone(config, tmp_path).talk.epochs for config in configs]


def test_a_lane_that_goes_nan_fails_and_no_other_is_touched(base: Base, tmp_path: Path):
    for model in (own("Residual"), own("ConvNet")):
        configs = variety(base(), **model)[:4]
        configs[1] = changed(configs[1], optimizer=WILD)
        ends = shared(configs, tmp_path)
        assert sizes(ends) == [4] * 4
        assert isinstance(ends[1].came_to, TrialFailed)
        for end, config in zip(ends, configs, strict=True):
            assert_same(end, alone(config, tmp_path))


def test_lanes_are_pruned_and_the_others_go_on_as_before(base: Base, tmp_path: Path):
    configs = variety(changed(base(), trainer={"max_epochs": 5}), **own("Residual"))
    told = {0: {"stop_after_epoch": 1}, 3: {"stop_after_epoch": 0}, 4: {"stop_at_chunk": 3}}
    ends = shared(configs, tmp_path, {trial: Talk(**told.get(trial, {})) for trial in range(7)})
    assert [trial for trial, end in enumerate(ends) if isinstance(end.came_to, TrialPruned)] == [0, 3, 4]
    for trial, config in enumerate(configs):
        assert_same(ends[trial], alone(config, tmp_path, Talk(**told.get(trial, {}))))


def test_the_weights_of_a_lane_load_into_the_users_module_and_predict(base: Base, tmp_path: Path):
    configs = variety(base(), **own("ConvNet"))
    data = build_data(configs[0])
    data.setup("fit")
    for end, config in zip(shared(configs, tmp_path), configs, strict=True):
        module = load(end.directory, config["model"]).module
        outputs, targets = module.outputs(data.val_dataloader())
        assert float(module.loss(outputs, targets)) == pytest.approx(end.outcome.values[0], rel=1e-5)


def test_a_lane_that_cannot_be_built_fails_as_it_would_alone(base: Base, tmp_path: Path):
    kinds = [own("Residual"), own("Residual", widht=3), own("Residual", gradient_clip_norm=-1), own("Residual")]
    configs = [changed(base(), seed=seed, model=model) for seed, model in enumerate(kinds)]
    ends = shared(configs, tmp_path)
    assert sizes(ends) == [2, 1, 1, 2]
    for end, config in zip(ends, configs, strict=True):
        assert_same(end, alone(config, tmp_path))


@pytest.mark.parametrize(
    ("target", "keeps"),
    [
        ("tests.bundle.own_models.Residual", True),
        ("tests.bundle.own_models.OwnStep", False),
        ("tests.bundle.own_models.OwnForward", False),
        ("tests.bundle.own_models.Block", False),
        ("tests.bundle.own_models.nobody", False),
        ("nowhere.Net", False),
        ("pytorch_lightning.LightningModule", False),
        ("builtins.dict", False),
        ("os.getcwd", False),
    ],
)
def test_only_a_supervised_module_with_no_more_than_a_constructor_keeps_the_loop(target: str, keeps: bool):
    assert keeps_training_loop(target) is keeps


def test_a_worker_trains_every_trial_of_a_bundle_whatever_shares_a_stack(base: Base, tmp_path: Path):
    models = [own("Residual", dropout=0.2), own("Given"), own("OwnStep"), own("nobody"), own("Residual", depth=0)]
    configs = [changed(base(), model=model) for model in models]
    ends: dict[int, TrialResult | Exception] = {}
    assignments = []
    for trial, config in enumerate([*configs, configs[0]]):
        (tmp_path / f"own-{trial}").mkdir()
        assignments.append(Assignment(trial=trial, config=config, directory=tmp_path / f"own-{trial}"))
    talks = [Talk() for _ in assignments]
    bundle = Bundle(assignments=tuple(assignments))
    Training().run_together(bundle, talks, ends.__setitem__, lambda *_: None)
    assert sorted(ends) == list(range(6))
    for one, talk in zip(assignments, talks, strict=True):
        assert_same(End(talk, ends[one.trial], one.directory), alone(one.config, tmp_path))


SWEEP = """
defaults:
  - train
  - override data: digits
  - override model: deep
  - override trainer: cpu
  - override hydra/sweeper: besom
  - _self_
objective: val/acc
direction: maximize
trainer: {max_epochs: 2}
hydra:
  sweeper:
    n_trials: 4
    n_jobs: 1
    bundle: 4
    params:
      optimizer.lr: tag(log, interval(1e-3, 1e-1))
"""

# Deep and narrow: a step is nearly all dispatch, which a stack pays for once.
DEEP = """
from torch import nn
from besom.models import SupervisedModule

class Deep(SupervisedModule):
    def __init__(self, *, spec, optimizer, scheduler=None, depth):
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(4, 4), nn.Tanh())]
        network = nn.Sequential(nn.Linear(spec.in_features, 4), *hidden, nn.Linear(4, spec.out_features))
        super().__init__(network, spec=spec, optimizer=optimizer, scheduler=scheduler)
"""


def test_a_sweep_over_a_users_own_module_trains_it_in_bundles(tmp_path: Path, location: Location):
    (tmp_path / "own.yaml").write_text(SWEEP)
    (tmp_path / "net.py").write_text(DEEP)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/deep.yaml").write_text("_target_: net.Deep\ndepth: 12\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    run(
        [sys.executable, "-m", "besom.cli", "sweep", "own.yaml", "--config-dir", "conf"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    client = MlflowClient(location.uri)
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    trials = [run for run in runs if "besom.trial" in run.data.tags]
    assert [run.info.status for run in trials] == ["FINISHED"] * 4
    assert [run.data.tags["besom.bundle"] for run in trials] == ["4"] * 4
    assert {run.data.tags["besom.family"] for run in trials} == {"Deep"}
