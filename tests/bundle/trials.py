"""Trials trained two ways: alone, by `train`, and together, by `train_bundle`; and that both come to the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from besom.bundle.size import Sizing
from besom.bundle.train import Entry, train_bundle
from besom.bundle.user_models import Measure, measured
from besom.training.fit import train
from besom.training.progress import Moment
from besom.training.result import TrialResult
from tests.bundle.members import distance

Config = dict[str, Any]


def optimizer(kind: str, **options: Any) -> Config:
    return {"_target_": f"torch.optim.{kind}", "_partial_": True, **options}


def scheduler(kind: str, **options: Any) -> Config:
    return {"_target_": f"torch.optim.lr_scheduler.{kind}", "_partial_": True, **options}


def model(kind: str, **options: Any) -> Config:
    return {"_target_": f"besom.models.{kind}", **options}


def changed(config: Config, **changes: Any) -> Config:
    """A config with some groups replaced (what has a `_target_`) or changed in part (other mappings)."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        replaced = not isinstance(value, dict) or "_target_" in value or not isinstance(config[name], dict)
        config[name] = value if replaced else {**config[name], **value}
    return config


@dataclass
class Talk:
    """A trial's channel: what it reported, and when it is to stop."""

    about: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    stop_after_epoch: int | None = None
    stop_at_chunk: int | None = None
    break_in_epoch: int | None = None
    chunks: int = 0

    def started(self, about: Mapping[str, Any]) -> None:
        self.about.update(about)

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        epoch = moment.epoch
        self.steps.append(moment.step)
        if epoch == self.break_in_epoch:
            raise BrokenPipeError("nobody listens")
        self.numbers.append(epoch)
        self.epochs.append(dict(metrics))

    def log(self, log: object) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        if in_epoch:
            self.chunks += 1
            return self.chunks == self.stop_at_chunk
        return bool(self.numbers) and self.numbers[-1] == self.stop_after_epoch


@dataclass
class End:
    """The end of a trial: its reports, its result, and its files."""

    talk: Talk
    came_to: TrialResult | Exception
    directory: Path

    @property
    def outcome(self) -> TrialResult:
        assert isinstance(self.came_to, TrialResult), self.came_to
        return self.came_to

    @property
    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.directory / "model.safetensors")


_ALONE: dict[str, End] = {}


def alone(config: Config, folder: Path, talk: Talk | None = None) -> End:
    """Train a trial unbundled; one that this process has trained before is not trained again."""
    talk = talk or Talk()
    key = repr((config, vars(talk)))
    if type(talk) is not Talk or key not in _ALONE:
        directory = _fresh(folder)
        try:
            end = End(talk, train(config, channel=talk, directory=directory), directory)
        except Exception as error:
            end = End(talk, error.with_traceback(None), directory)
        if type(talk) is not Talk:
            return end
        _ALONE[key] = end
    vars(talk).update(vars(_ALONE[key].talk))
    return End(talk, _ALONE[key].came_to, _ALONE[key].directory)


def together(
    configs: Sequence[Config],
    folder: Path,
    talks: Mapping[int, Talk] | None = None,
    sizing: Sizing | None = None,
    measure: Measure = measured,
) -> list[End]:
    """Train the trials as a bundle; each must end, and once."""
    every = [(talks or {}).get(trial) or Talk() for trial in range(len(configs))]
    directories = [_fresh(folder) for _ in configs]
    ends: dict[int, TrialResult | Exception] = {}

    def over(trial: int, came_to: TrialResult | Exception) -> None:
        assert trial not in ends, "a trial ends once"
        ends[trial] = came_to

    entries = zip(range(len(configs)), configs, every, directories, strict=True)
    train_bundle([Entry(*entry) for entry in entries], over, sizing, measure)
    return [End(every[trial], ends[trial], directories[trial]) for trial in range(len(configs))]


def assert_same(one: End, other: End, *, rel: float = 1e-5) -> None:
    """Assert that a member has the result of its unbundled training."""
    assert (one.talk.numbers, one.talk.steps) == (other.talk.numbers, other.talk.steps)
    for epoch, wanted in zip(one.talk.epochs, other.talk.epochs, strict=True):
        assert epoch == pytest.approx(wanted, rel=rel, abs=1e-6)
    if isinstance(other.came_to, Exception):
        assert (type(one.came_to), str(one.came_to)) == (type(other.came_to), str(other.came_to))
        assert one.files == {}
        return
    assert one.outcome.values == pytest.approx(other.outcome.values, rel=rel)
    assert (one.outcome.best_epoch, one.outcome.best_step) == (other.outcome.best_epoch, other.outcome.best_step)
    assert one.outcome.summary == other.outcome.summary
    assert one.files.keys() == other.files.keys()
    assert all(one.files[name] == other.files[name] for name in one.files if name.endswith("json"))
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        assert (tensor.shape, tensor.dtype) == (other.weights[name].shape, other.weights[name].dtype)
    names = [name for name in sorted(one.weights) if name.startswith("module.")]  # a scaler's numbers may be large
    vectors = [torch.cat([end.weights[name].double().reshape(-1) for name in names]) for end in (one, other)]
    assert distance(*vectors) < rel


def assert_as_alone(
    configs: Sequence[Config], folder: Path, make: Callable[[int], Talk] = lambda _: Talk()
) -> list[End]:
    """Train the trials both ways, and return how they ended in the bundle."""
    ends = together(configs, folder, {trial: make(trial) for trial in range(len(configs))})
    for trial, (end, config) in enumerate(zip(ends, configs, strict=True)):
        assert_same(end, alone(config, folder, make(trial)))
    return ends


def _fresh(folder: Path) -> Path:
    directory = folder / f"left-{len(list(folder.iterdir()))}"
    directory.mkdir()
    return directory
