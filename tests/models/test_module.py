from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from besom.config.objectives import metric_names
from besom.data import Task
from besom.errors import ConfigError, TrialFailed
from besom.models import MLP, LogisticRegression, MLPClassifier, SupervisedModule

MOMENTUM = partial(SGD, lr=0.05, momentum=0.9)


def classifier(data, **options):
    return MLPClassifier(spec=data.spec, **{"optimizer": MOMENTUM, "hidden_sizes": [8], "seed": 1, **options})


def logistic(data, **options):
    return LogisticRegression(spec=data.spec, **{"optimizer": MOMENTUM, **options})


def same_parameters(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("task", Task)
def test_training_equals_a_hand_written_loop_bit_for_bit(task, clip, problem, fit):
    data = problem(task)
    loss_of = {
        Task.REGRESSION: lambda outputs, y: F.mse_loss(outputs[:, 0], y),
        Task.BINARY: lambda outputs, y: F.binary_cross_entropy_with_logits(outputs[:, 0], y.float()),
        Task.MULTICLASS: F.cross_entropy,
    }[task]
    by_hand = MLP(2, (8,), data.spec.out_features, seed=1)
    optimizer, losses = MOMENTUM(by_hand.parameters()), []
    for _ in range(2):
        losses.clear()
        for x, y in data.batches():
            optimizer.zero_grad()
            loss = loss_of(by_hand(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(by_hand.parameters(), clip)
            optimizer.step()
            losses.append(loss.item() * len(y))

    network = MLP(2, (8,), data.spec.out_features, seed=1)
    module = SupervisedModule(network, spec=data.spec, optimizer=MOMENTUM, gradient_clip_norm=clip)
    found = fit(module, data.chunks(), max_epochs=2).metrics
    assert same_parameters(network, by_hand)
    assert found["train/loss"] == pytest.approx(sum(losses) / len(data.y), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.5, "batch_norm": True}])
def test_stretches_and_ordinary_batches_give_the_same_training(options, problem, fit):
    data = problem(Task.MULTICLASS)
    one, other = classifier(data, **options), classifier(data, **options)
    first = fit(one, data.chunks(), data.chunks(), max_epochs=2)
    second = fit(other, data.batches(), data.batches(), max_epochs=2)
    assert same_parameters(one, other)
    assert first.metrics == pytest.approx(second.metrics)


def test_what_else_runs_does_not_change_training(problem, fit):
    data = problem(Task.MULTICLASS)
    modules = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        modules.append(classifier(data, dropout=0.5))
        before = torch.get_rng_state()
        fit(modules[-1], data.chunks(), max_epochs=2)
        assert torch.equal(before, torch.get_rng_state())
    assert same_parameters(*modules)


@pytest.mark.parametrize("task", Task)
def test_each_part_logs_the_metrics_of_its_task(task, problem, fit):
    data = problem(task)
    module = SupervisedModule(MLP(2, (), data.spec.out_features), spec=data.spec, optimizer=MOMENTUM)
    run = fit(module, data.chunks(), data.chunks())
    names = metric_names(task)
    assert set(run.metrics) == {f"{part}/{name}" for part in ("train", "val") for name in names} | {"train/lr"}
    (tested,) = run.trainer.test(module, data.batches(), verbose=False)
    assert set(tested) == {f"test/{name}" for name in names}
    assert tested["test/loss"] == pytest.approx(run.metrics["val/loss"], rel=1e-6)


def test_validation_metrics_equal_sklearns_on_all_outputs(problem, fit):
    data = problem(Task.MULTICLASS)
    module = classifier(data, dropout=0.5)
    found = fit(module, data.chunks(), data.batches(7)).metrics
    outputs, targets = module.outputs(data.chunks())
    predicted = outputs.argmax(1)
    assert found["val/acc"] == pytest.approx(sk.accuracy_score(targets, predicted), abs=1e-6)
    assert found["val/f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro"), abs=1e-6)
    assert found["val/loss"] == pytest.approx(sk.log_loss(targets, outputs.double().softmax(1)), rel=1e-5)


def test_outputs_covers_each_sample_once_and_leaves_the_mode(problem):
    data = problem(Task.MULTICLASS)
    module = classifier(data, dropout=0.5).train()
    outputs, targets = module.outputs(data.chunks())
    assert torch.equal(targets, data.y)
    assert torch.allclose(outputs, module.eval()(data.x), atol=1e-6)
    assert module.train().training
    with pytest.raises(ValueError, match="loader is empty"):
        module.outputs([])


@pytest.mark.parametrize("task", Task)
def test_predictions_are_values_or_probabilities(task, problem, fit):
    data = problem(task)
    module = SupervisedModule(MLP(2, (4,), data.spec.out_features), spec=data.spec, optimizer=MOMENTUM)
    trainer = fit(module, data.chunks()).trainer
    predicted = module.predict(data.x)
    assert predicted.shape == ((150, 3) if task is Task.MULTICLASS else (150,))
    if task is Task.MULTICLASS:
        assert torch.allclose(predicted.sum(1), torch.ones(150))
    loaders = data.chunks(), data.batches(), DataLoader(data.x, batch_size=40)
    for loader in loaders:
        assert torch.allclose(torch.cat(trainer.predict(module, loader)), predicted, atol=1e-6)


@pytest.mark.parametrize("loader", ["chunks", "batches"])
def test_a_loss_that_is_not_finite_fails_the_trial_in_its_epoch(loader, problem, fit):
    data = problem(Task.REGRESSION)
    network = MLP(2, (), 1)
    explode = partial(LambdaLR, lr_lambda=lambda epoch: 1.0 if epoch < 2 else 1e30)
    module = SupervisedModule(network, spec=data.spec, optimizer=partial(SGD, lr=0.01), scheduler=explode)
    with pytest.raises(TrialFailed, match=r"^loss became (nan|inf) in epoch 3; lower optimizer\.lr, set [^\n]*$"):
        fit(module, getattr(data, loader)(), max_epochs=5)


def test_parameters_that_break_in_the_last_step_fail_at_validation(problem, fit):
    data = problem(Task.REGRESSION)
    module = SupervisedModule(MLP(2, (), 1), spec=data.spec, optimizer=partial(SGD, lr=math.inf))
    with pytest.raises(TrialFailed, match=r"val/loss is nan"):
        fit(module, data.batches(150), data.batches())


def test_a_module_can_be_trained_again_after_a_failure(problem, fit):
    data = problem(Task.MULTICLASS)
    module = classifier(data)
    broken = DataLoader([(data.x, data.y), (data.x * math.nan, data.y)], batch_size=None)
    with pytest.raises(TrialFailed):
        fit(module, broken)
    module.network.load_state_dict(MLP(2, (8,), 3).state_dict())
    assert fit(module, data.chunks()).metrics["train/acc"] > 0.3


def test_lightning_counts_each_batch_as_a_step(problem, fit):
    data = problem(Task.MULTICLASS)
    assert fit(logistic(data), data.chunks(), max_epochs=2).trainer.global_step == 20


def test_max_steps_ends_training_within_a_stretch(problem, fit):
    data = problem(Task.MULTICLASS)
    one, other = logistic(data), logistic(data)
    chunks = fit(one, data.chunks(), max_epochs=-1, max_steps=14)
    batches = fit(other, data.batches(), max_epochs=-1, max_steps=14)
    assert chunks.trainer.global_step == batches.trainer.global_step == 14
    assert same_parameters(one, other)


def test_lightnings_checkpoints_are_written_and_read(problem, fit, tmp_path):
    data = problem(Task.MULTICLASS)
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/loss")
    module, other = classifier(data), classifier(data, seed=2)
    fit(module, data.chunks(), data.chunks(), max_epochs=2, callbacks=[checkpoint])
    other.load_state_dict(torch.load(checkpoint.best_model_path, weights_only=False)["state_dict"])
    assert same_parameters(module, other)


def test_half_precision_trains_to_finite_metrics(problem, fit):
    data = problem(Task.MULTICLASS)
    found = fit(classifier(data), data.chunks(), data.chunks(), max_epochs=3, precision="bf16-mixed").metrics
    assert found["val/acc"] > 0.8
    assert found["val/loss"] == pytest.approx(found["train/loss"], abs=0.5)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            SimpleNamespace(precision="16-mixed", world_size=1),
            "trainer.precision: 16-mixed .* use bf16-mixed",
        ),
        (
            SimpleNamespace(precision="32-true", world_size=2, strategy=FSDPStrategy()),
            "trainer.strategy: LogisticRegression trains on several devices by ddp, not FSDPStrategy",
        ),
    ],
)
def test_a_trainer_that_this_loop_would_train_wrongly_under_is_refused(trainer, message, problem):
    module = logistic(problem(Task.BINARY))
    module.trainer = trainer
    with pytest.raises(ConfigError, match=message):
        module.setup("fit")
    module.setup("test")
