from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from besom.bundle.compatibility import bundle_key
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.models.saved import load
from besom.training.fit import build_data
from besom.training.result import TrialResult
from tests.bundle.trials import (
    Config,
    Talk,
    alone,
    assert_as_alone,
    assert_same,
    changed,
    model,
    optimizer,
    scheduler,
    together,
)

Base = Callable[..., Config]

SGD = optimizer("SGD", lr=0.05)
HEAVY = optimizer("SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
ADAM = optimizer("Adam", lr=0.01)
ADAMW = optimizer("AdamW", lr=0.01, weight_decay=0.1, betas=[0.8, 0.99])
RMSPROP = optimizer("RMSprop", lr=0.002, momentum=0.5)
ADAGRAD = optimizer("Adagrad", lr=0.05, lr_decay=0.01)
WILD = optimizer("SGD", lr=1e30)

models = st.one_of(
    st.builds(
        model, st.just("LogisticRegression"), seed=st.integers(0, 99), init=st.sampled_from(["default", "orthogonal"])
    ),
    st.builds(
        model,
        st.just("MLPClassifier"),
        hidden_sizes=st.lists(st.sampled_from([4, 8, 8, 16]), max_size=3),
        activation=st.sampled_from(
            ["linear", "relu", "leaky_relu", "gelu", "silu", "elu", "tanh", "sigmoid", "softplus"]
        ),
        dropout=st.sampled_from([0.0, 0.3]),
        init=st.sampled_from(["default", "xavier_uniform", "kaiming_normal"]),
        gradient_clip_norm=st.sampled_from([None, 0.5]),
        seed=st.integers(0, 99),
    ),
)
members = st.fixed_dictionaries(
    {
        "model": models,
        "optimizer": st.sampled_from([SGD, HEAVY, ADAM, ADAMW, RMSPROP, ADAGRAD]),
        "scheduler": st.sampled_from(
            [{}, {}, scheduler("CosineAnnealingLR", T_max=9), scheduler("StepLR", step_size=3)]
        ),
        "early_stopping": st.sampled_from([{}, {"patience": 1, "min_delta": 0.05}]),
    }
)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(chosen=st.lists(members, min_size=2, max_size=4), shuffle_seed=st.integers(0, 99))
def test_any_trials_come_to_what_they_come_to_alone(
    base: Base, tmp_path_factory: pytest.TempPathFactory, chosen, shuffle_seed
):
    common = changed(base(), trainer={"max_epochs": 9}, data={"shuffle_seed": shuffle_seed})  # 54 steps
    configs = [changed(common, **member) for member in chosen]
    assert {bundle_key(config) for config in configs} == {bundle_key(common)}
    assert_as_alone(configs, tmp_path_factory.mktemp("trials"))


def variety(common: Config) -> list[Config]:
    """Members with little in common; the regressors' outputs are bounded as well."""
    kinds = [
        (SGD, {"depth": 0}),
        (ADAM, {"depth": 2, "activation": "gelu"}),
        (RMSPROP, {"depth": 1, "dropout": 0.3, "seed": 5}),
        (HEAVY, {"depth": 1, "gradient_clip_norm": 0.5, "activation": "tanh"}),
        (SGD, {"depth": 2, "batch_norm": True}),  # by SGD: see tests/bundle/members.py, `settled`
    ]
    if common["model"]["_target_"].endswith("Regressor"):
        bounds = ["linear", "relu", "leaky_relu", "elu", "tanh", "sigmoid"]
        kinds = [(own, {**keys, "output_activation": bounds[i % 6]}) for i, (own, keys) in enumerate(kinds)]
        kinds += [(ADAM, {"output_activation": "sigmoid", "depth": 0}), (ADAGRAD, {"width": 4})]
    return [changed(common, optimizer=own, model={**common["model"], **keys}) for own, keys in kinds]


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ("digits", {}),
        ("digits", {"batch_size": None}),
        ("breast_cancer", {}),
        ("diabetes", {}),
        ("diabetes", {"batch_size": None}),
    ],
)
def test_each_task_is_learned_as_alone_in_batches_of_any_size(base: Base, tmp_path: Path, data, keys):
    ends = assert_as_alone(variety(changed(base(data), data=keys)), tmp_path)
    assert all(isinstance(end.came_to, TrialResult) for end in ends)


@pytest.mark.parametrize("data", ["digits", "breast_cancer", "diabetes"])
def test_without_a_validation_part_it_is_judged_by_the_training_loss(base: Base, tmp_path: Path, data):
    common = changed(base(data), data={"val_fraction": 0.0}, objective="train/loss")
    ends = assert_as_alone(variety(common), tmp_path)
    assert all(end.talk.numbers == [0, 1, 2, 3, 4] and end.talk.epochs[0] == {} for end in ends)


def test_each_lane_has_a_scheduler_of_its_own(base: Base, tmp_path: Path):
    common = changed(base(), trainer={"max_epochs": 6})
    plateau = scheduler("ReduceLROnPlateau", patience=0, factor=0.5, threshold=0.2)
    kinds = [
        {"scheduler": scheduler("CosineAnnealingLR", T_max=6), "optimizer": ADAM},
        {"scheduler": scheduler("StepLR", step_size=2, gamma=0.3), "optimizer": HEAVY},
        {"scheduler": plateau, "optimizer": RMSPROP},
        {"scheduler": plateau, "optimizer": SGD, "model": {**common["model"], "monitor": "train/loss"}},
        {},
    ]
    ends = assert_as_alone([changed(common, **member) for member in kinds], tmp_path)
    rates = [{epoch["train/lr"] for epoch in end.talk.epochs[1:]} for end in ends]
    assert [len(one) > 1 for one in rates] == [True, True, True, True, False]


def test_a_scheduler_that_waits_for_an_unknown_metric_ends_its_lane_as_it_would_alone(base: Base, tmp_path: Path):
    plateau = changed(
        base(), scheduler=scheduler("ReduceLROnPlateau"), model={**base()["model"], "monitor": "val/auroc"}
    )
    ends = together([base(), plateau], tmp_path)
    unbundled = alone(plateau, tmp_path)
    assert_same(ends[0], alone(base(), tmp_path))
    assert isinstance(ends[1].came_to, ConfigError)
    assert str(ends[1].came_to).partition(";")[0] == str(unbundled.came_to).partition(";")[0]
    assert ends[1].talk.numbers == unbundled.talk.numbers


@pytest.mark.parametrize("judged", [("val/loss", "minimize"), ("val/acc", "maximize")])
@pytest.mark.parametrize("min_delta", [0.0, 0.1, -0.1])
def test_early_stopping_ends_a_lane_in_the_epoch_in_which_it_ends_alone(base: Base, tmp_path: Path, judged, min_delta):
    # 10 rows to validate on: an accuracy often rises by just 0.1, and whether that is enough hangs on rounding.
    common = changed(base(), objective=judged[0], direction=judged[1], trainer={"max_epochs": 8}, data={"limit": 50})
    kinds = [
        changed(
            common,
            model=model("LogisticRegression", seed=seed),
            optimizer=optimizer("SGD", lr=rate),
            early_stopping={"patience": patience, "min_delta": min_delta},
        )
        for seed, rate, patience in [(0, 5.0, 1), (8, 0.5, 2), (9, 0.02, 2), (10, 1.0, 3), (0, 1.0, None)]
    ]
    ends = assert_as_alone(kinds, tmp_path)
    assert len({len(end.talk.epochs) for end in ends}) > 1
    assert len(ends[-1].talk.epochs) == 9


def test_lanes_are_pruned_between_epochs_and_within_them(base: Base, tmp_path: Path):
    # Batches of one row: an epoch is 90 steps, in one chunk; of 300 rows, 180 in two.
    common = changed(base(), data={"batch_size": 1, "limit": 300})
    told = {
        1: {"stop_after_epoch": 0},
        2: {"stop_after_epoch": 2},
        3: {"stop_at_chunk": 3},
        4: {"stop_at_chunk": 4},
    }
    kinds = [HEAVY, ADAM, RMSPROP, ADAGRAD, SGD, RMSPROP]
    ends = assert_as_alone(
        [changed(common, optimizer={**own, "lr": 1e-3}) for own in kinds],
        tmp_path,
        lambda trial: Talk(**told.get(trial, {})),
    )
    assert [type(end.came_to) for end in ends] == [TrialResult, *[TrialPruned] * 4, TrialResult]
    assert [end.talk.numbers[-1] for end in ends] == [4, 0, 2, 1, 1, 4]
    assert [end.talk.chunks for end in ends] == [8, 0, 4, 3, 4, 8]


def test_a_bundle_is_over_when_its_last_lane_is(base: Base, tmp_path: Path):
    pruned = together([base()] * 2, tmp_path, {0: Talk(stop_after_epoch=1), 1: Talk(stop_after_epoch=2)})
    assert [end.talk.numbers for end in pruned] == [[0, 1], [0, 1, 2]]
    assert all(isinstance(end.came_to, TrialPruned) for end in pruned)
    failed = together([changed(base(), optimizer=WILD)] * 2, tmp_path)
    assert all(isinstance(end.came_to, TrialFailed) for end in failed)


@pytest.mark.parametrize("data", ["digits", "breast_cancer", "diabetes"])
def test_a_lane_that_goes_nan_fails_as_it_would_alone_and_no_other_is_touched(base: Base, tmp_path: Path, data):
    common = variety(base(data))
    ends = assert_as_alone([changed(common[2], optimizer=WILD), *common, changed(common[0], optimizer=WILD)], tmp_path)
    assert isinstance(ends[0].came_to, TrialFailed)
    assert all(isinstance(end.came_to, TrialResult) for end in ends[1:-1])


def test_a_lane_that_cannot_be_built_ends_alone(base: Base, tmp_path: Path):
    refused = [
        changed(base(), model={**base()["model"], "dropout": 2}),
        changed(base(), optimizer=optimizer("Adam", lr=-1.0)),
        changed(base(), optimizer=optimizer("SGD", lr=0.1, ascent=True)),
        changed(base(), model={**base()["model"], "activation": "relo"}),
    ]
    ends = together([refused[0], base(), *refused[1:]], tmp_path)
    assert_same(ends[1], alone(base(), tmp_path))
    assert ends[1].talk.about["bundle"] == 1
    for end, config in zip([ends[0], *ends[2:]], refused, strict=True):
        unbundled = alone(config, tmp_path)
        assert (type(end.came_to), str(end.came_to)) == (type(unbundled.came_to), str(unbundled.came_to))
        assert (end.talk.about, end.talk.epochs, end.files) == ({}, [], {})
    assert all(isinstance(end.came_to, Exception) for end in together(refused, tmp_path))


def test_batch_norm_before_a_batch_of_one_row_is_refused_before_anything_is_trained(base: Base, tmp_path: Path):
    common = changed(base(), data={"batch_size": 89})  # of 90 rows
    normed = changed(common, model={**common["model"], "batch_norm": True})
    ends = together([common, normed], tmp_path)
    assert_same(ends[0], alone(common, tmp_path))
    assert str(ends[1].came_to) == str(alone(normed, tmp_path).came_to)


def test_a_lane_that_nobody_listens_to_any_more_ends_alone(base: Base, tmp_path: Path):
    ends = together([base(), changed(base(), optimizer=ADAMW)], tmp_path, {0: Talk(break_in_epoch=2)})
    assert isinstance(ends[0].came_to, BrokenPipeError)
    assert_same(ends[1], alone(changed(base(), optimizer=ADAMW), tmp_path))


def test_lanes_that_stay_go_on_as_before_when_others_leave_in_every_epoch(base: Base, tmp_path: Path):
    common = changed(base(), trainer={"max_epochs": 6})
    kinds = [HEAVY, ADAM, RMSPROP, ADAGRAD, ADAMW, optimizer("Adam", lr=0.01, amsgrad=True)]
    configs = [
        changed(common, optimizer=own, model={**common["model"], "seed": i, "dropout": drop})
        for i, (own, drop) in enumerate([(one, drop) for one in kinds for drop in (0.0, 0.4)])
    ]
    ends = together(configs, tmp_path, {trial: Talk(stop_after_epoch=trial // 2) for trial in range(0, 12, 2)})
    for trial in range(1, 12, 2):
        assert_same(ends[trial], alone(configs[trial], tmp_path))


def test_the_first_of_equal_epochs_is_the_best(base: Base, tmp_path: Path):
    still = [
        changed(base(), optimizer=optimizer("SGD", lr=0.0), model=model("LogisticRegression", seed=s)) for s in (1, 2)
    ]
    best = [changed(base(), objective="val/acc", direction="maximize", optimizer=ADAM) for _ in range(2)]
    for configs in (still, best):
        assert_as_alone(configs, tmp_path)
    assert [end.outcome.best_epoch for end in together(still, tmp_path)] == [1, 1]


def test_several_objectives_are_measured_costs_included(base: Base, tmp_path: Path):
    common = changed(
        base(), objective=["val/acc", "val/loss", "cost/params"], direction=["maximize", "minimize", "minimize"]
    )
    ends = assert_as_alone([changed(common, optimizer=own) for own in (SGD, ADAM)], tmp_path)
    assert all(end.outcome.values[2] == 64 * 8 + 8 + 8 * 10 + 10 for end in ends)


def test_what_a_lane_leaves_is_an_ordinary_saved_model_of_its_best_epoch(base: Base, tmp_path: Path):
    for name in ("digits", "breast_cancer", "diabetes"):
        common = changed(base(name), early_stopping={"patience": 1})
        # Maximizing a loss that falls: the first epoch is the best, the weights go on.
        configs = variety(changed(common, direction="maximize"))
        for end, config in zip(together(configs, tmp_path), configs, strict=True):
            data = build_data(config)
            data.setup("fit")
            module = load(end.directory, config["model"]).module
            outputs, targets = module.outputs(data.val_dataloader())
            assert float(module.loss(outputs, targets)) == pytest.approx(end.outcome.values[0], rel=1e-5)
            assert "layers.0.weight" in "".join(end.weights)
            assert not module.training


def test_a_saved_lane_predicts_what_its_solo_run_predicts(base: Base, tmp_path: Path):
    configs = variety(base())
    x = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    for end, config in zip(together(configs, tmp_path), configs, strict=True):
        unbundled = alone(config, tmp_path)
        one, other = (load(one.directory, config["model"]).predict(x) for one in (end, unbundled))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_lanes_and_their_company_make_no_difference(base: Base, tmp_path: Path):
    configs = variety(base())
    ends = together(configs, tmp_path)
    for end, mirrored in zip(ends, reversed(together(configs[::-1], tmp_path)), strict=True):
        assert_same(end, mirrored)
    (single,) = together(configs[1:2], tmp_path)
    assert_same(ends[1], single)


def test_each_lane_is_told_of_as_alone_and_how_many_it_is_trained_with(base: Base, tmp_path: Path):
    configs = variety(base())
    for end, config in zip(together(configs, tmp_path), configs, strict=True):
        assert end.talk.about == {**alone(config, tmp_path).talk.about, "bundle": len(configs)}
