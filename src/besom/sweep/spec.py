"""The spec of a sweep, read once from Hydra's config into a typed object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import resolved
from besom.config.messages import explain
from besom.config.objectives import Objective, read_objectives
from besom.config.paths import file_name
from besom.errors import ConfigError
from besom.system.urls import sqlite_url
from besom.tracking.registry import check_names
from besom.workers.devices import Slot

# Under `bundle=auto`. Few: on a CPU with a sampler that learns, where more trials at once make its choices worse and
# save little time. Many: everywhere else. See docs/performance.md.
_FEW_MEMBERS, _MANY_MEMBERS = 8, 64
_SHARE_AT_ONCE = 0.25
_LONGEST_NAME = 210  # characters of a study's name: MLflow allows 250 for a tag, and the tag of the view adds some
_LEARN_NOTHING = ("RandomSampler", "GridSampler", "BruteForceSampler", "QMCSampler")


@dataclass(frozen=True, kw_only=True)
class FinalistsSpec:
    """The finalists, trained again after the search: the best `top` trials, each with this number of fresh `seeds`.

    `overrides` are further values for their configs, by config key; `register` is the name under which the model of the
    winner's best run is registered in MLflow.
    """

    top: int = 3
    seeds: int = 5
    overrides: Mapping[str, Any] = field(default_factory=dict)
    register: str | None = None

    @classmethod
    def read(cls, node: Mapping[str, Any] | None, source: str) -> FinalistsSpec | None:
        """Read `hydra.sweeper.finalists`, whose unset keys are null.

        Raises ConfigError naming the key.
        """
        keys = {key: value for key, value in (node or {}).items() if value is not None}
        if not keys:
            return None
        where = f"{source}: hydra.sweeper.finalists"
        if "top" not in keys:
            raise ConfigError(f"{where}.top: it has no value, so that there are none; add top: 3")
        overrides = keys.get("overrides", {})
        if not isinstance(overrides, dict):
            raise ConfigError(f"{where}.overrides: '{overrides}' sets nothing; write KEY: VALUE lines")
        if "register" in keys:
            try:
                check_names(keys["register"], alias=None)
            except ConfigError as error:
                raise ConfigError(f"{where}.{error}") from error
        return cls(**{**keys, "overrides": {str(key): value for key, value in overrides.items()}})


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """The spec of a sweep: its study, objectives, sampler, budget and devices."""

    study_name: str
    objectives: tuple[Objective, ...]
    source: str
    seed: int = 0

    sampler: Mapping[str, Any] = field(default_factory=dict)
    pruner: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    custom_search_space: str | None = None
    enqueue: tuple[Mapping[str, Any], ...] = ()
    enqueue_from: str | None = None

    n_trials: int | None = 20
    timeout_s: float | None = None
    patience: int | None = None
    finalists: FinalistsSpec | None = None

    max_failure_rate: float = 1.0
    retries: int = 0
    trial_timeout_s: float | None = None
    max_trials_per_worker: int | None = None

    devices: str | int | Sequence[int] = "auto"
    trials_per_device: int = 1
    devices_per_trial: int = 1
    n_jobs: int | None = None
    bundle: str | int = "off"
    storage: str | Mapping[str, Any] | None = None

    quiet: bool = False
    dry_run: bool = False

    @classmethod
    def read(cls, config: DictConfig, *, foreign: bool = False) -> SweepSpec:
        """Read the spec from a sweep's whole config, its `hydra` node included.

        With `foreign`, the config is that of another app, whose study is named after its job. Raises ConfigError
        naming the key.
        """
        job = config.hydra.job
        source = f"{(job.config_name or job.name).removesuffix('.yaml')}.yaml"
        name = job.name if foreign else source.removesuffix(".yaml")
        try:
            keys = resolved(config.hydra.sweeper)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        if keys["search_space"] is not None:
            raise ConfigError(
                f"{source}: hydra.sweeper.search_space: is no more; write its parameters as lines of "
                "hydra.sweeper.params, such as lr: tag(log, interval(1e-4, 1e-1))"
            )
        spec = cls(
            study_name=keys["study_name"] or name,
            objectives=_objectives(config, keys["direction"], source, foreign=foreign),
            source=source,
            seed=_seed(config, source),
            sampler=_target(keys["sampler"], "sampler", "optuna.samplers.TPESampler", source),
            pruner=_target(keys["pruner"], "pruner", "optuna.pruners.HyperbandPruner", source),
            constraints=tuple(keys["constraints"]),
            custom_search_space=keys["custom_search_space"],
            enqueue=_enqueued(keys["enqueue"], source),
            enqueue_from=keys["enqueue_from"],
            n_trials=keys["n_trials"],
            timeout_s=keys["timeout"],
            patience=keys["patience"],
            finalists=FinalistsSpec.read(keys["finalists"], source),
            max_failure_rate=keys["max_failure_rate"],
            retries=keys["retries"],
            trial_timeout_s=keys["trial_timeout"],
            max_trials_per_worker=keys["max_trials_per_worker"],
            devices=_devices(config, keys["devices"], source),
            trials_per_device=keys["trials_per_device"],
            devices_per_trial=max(keys["devices_per_trial"], _trainer_devices(config)),
            n_jobs=keys["n_jobs"],
            bundle="off" if foreign else _bundle(keys["bundle"], source),
            storage=keys["storage"],
            quiet=keys["quiet"],
            dry_run=keys["dry_run"],
        )
        spec._check()
        return spec

    def _check(self) -> None:
        if len(self.study_name) > _LONGEST_NAME:
            raise ConfigError(
                f"{self.source}: hydra.sweeper.study_name: it has {len(self.study_name)} characters; "
                f"MLflow takes {_LONGEST_NAME} of a study"
            )
        for key, value, low in (
            ("n_trials", self.n_trials, 1),
            ("timeout", self.timeout_s, 0),
            ("patience", self.patience, 1),
            ("max_failure_rate", self.max_failure_rate, 0),
            ("retries", self.retries, 0),
            ("trial_timeout", self.trial_timeout_s, 0),
            ("max_trials_per_worker", self.max_trials_per_worker, 1),
            ("trials_per_device", self.trials_per_device, 1),
            ("devices_per_trial", self.devices_per_trial, 1),
            ("n_jobs", self.n_jobs, 1),
            ("finalists.top", self.finalists.top if self.finalists else None, 1),
            ("finalists.seeds", self.finalists.seeds if self.finalists else None, 1),
        ):
            if value is not None and not value >= low:
                fault = f"is below {low}; raise it" if value < low else f"is no number; take {low} or more"
                raise ConfigError(f"{self.source}: hydra.sweeper.{key}: {value} {fault}")
        if self.pruner and len(self.objectives) > 1:
            raise ConfigError(
                f"{self.source}: hydra.sweeper.pruner: a pruner follows one objective, and there are "
                f"{len(self.objectives)}; leave it out, or name one objective"
            )

    def members(self, slots: Sequence[Slot]) -> int:
        """Return how many trials a slot may train at once; `slots` are all the slots.

        A trial with a time limit, or with several devices, is never bundled. Under `bundle=auto`, at most a share of
        all trials runs at once, so that the sampler can learn from the others; workers measure which size is fastest.
        """
        if self.bundle == "off" or self.trial_timeout_s is not None or self.devices_per_trial > 1:
            return 1
        if isinstance(self.bundle, int):
            return min(self.bundle, self.max_trials_per_worker or self.bundle)
        learns = str(self.sampler.get("_target_")).rpartition(".")[2] not in _LEARN_NOTHING
        most = _FEW_MEMBERS if learns and slots[0].device.kind == "cpu" else _MANY_MEMBERS
        most = min(self.max_trials_per_worker or most, most)
        if self.n_trials is None:
            return most
        share = int(self.n_trials * _SHARE_AT_ONCE / (len(slots) + 1))  # one more bundle is asked for ahead
        return max(1, min(most, share))

    @property
    def objective(self) -> Objective:
        """The first objective, whose values are reported while trials run."""
        return self.objectives[0]

    @property
    def folder(self) -> str:
        """The study's name as a valid name of a folder or a file."""
        return file_name(self.study_name)


def _objectives(config: DictConfig, direction: Any, source: str, *, foreign: bool) -> tuple[Objective, ...]:
    direction = direction or _value(config, "direction", source) or "minimize"
    name = _value(config, "objective", source)
    if (foreign or "objective" not in config) and not isinstance(name, str) and not OmegaConf.is_list(name):
        # Another app's task function returns its values without names.
        count = len(direction) if isinstance(direction, list) or OmegaConf.is_list(direction) else 1
        name = "value" if count == 1 else [f"value_{index}" for index in range(count)]
    try:
        return read_objectives({"objective": name, "direction": direction})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _value(config: DictConfig, key: str, source: str) -> Any:
    try:
        return config.get(key)
    except OmegaConfBaseException as error:
        error.full_key = key
        raise ConfigError(f"{source}: {explain(error)}") from error


def _target(node: Any, key: str, example: str, source: str) -> Mapping[str, Any]:
    if node is None or node == {}:
        return {}
    if not isinstance(node, dict):
        raise ConfigError(
            f"{source}: hydra.sweeper.{key}: '{node}' names no class; write it as {{_target_: {example}}}, "
            f"or choose one with hydra/sweeper/{key}=NAME"
        )
    return {str(name): value for name, value in node.items()}


def _enqueued(entries: Any, source: str) -> tuple[Mapping[str, Any], ...]:
    for entry in entries:
        if not isinstance(entry, dict):
            raise ConfigError(f"{source}: hydra.sweeper.enqueue: '{entry}' is no parameters; write KEY: VALUE lines")
    return tuple({str(key): value for key, value in entry.items()} for entry in entries)


def _seed(config: DictConfig, source: str) -> int:
    seed = config.get("seed")
    if not isinstance(seed, int):
        return 0
    if seed < 0:
        raise ConfigError(f"{source}: seed: {seed} is below 0; take 0 or more")
    return int(seed)


def _devices(config: DictConfig, devices: Any, source: str) -> str | int | Sequence[int]:
    if devices == "auto":
        accelerator = OmegaConf.select(config, "trainer.accelerator")
        return accelerator if accelerator in ("cpu", "gpu", "cuda") else "auto"
    if isinstance(devices, str | int):
        return devices
    if isinstance(devices, list) and devices and all(isinstance(device, str | int) for device in devices):
        return devices
    raise ConfigError(
        f"{source}: hydra.sweeper.devices: {devices} names none; use auto, cpu, gpu, a number of GPUs or a list like "
        "[0, 2]"
    )


def _bundle(value: Any, source: str) -> str | int:
    # YAML 1.1 reads a bare `off` as false.
    value = "off" if value is False else value
    if value in ("auto", "off") or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return cast("str | int", value)
    raise ConfigError(f"{source}: hydra.sweeper.bundle: {value} is no size; use auto, off, or a number of trials")


def _trainer_devices(config: DictConfig) -> int:
    # trainer.devices=2, as a single run needs it, applies to every trial.
    devices = OmegaConf.select(config, "trainer.devices")
    return devices if isinstance(devices, int) and OmegaConf.select(config, "trainer.accelerator") else 1


def storage_url(directory: Path) -> str:
    """Return the URL of the default storage of studies."""
    return sqlite_url(directory / "optuna.db")
