"""The parts of a sweep's spec: search, budget, devices and finalists. Each reads and checks its own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import select
from besom.config.messages import explain
from besom.config.objectives import Objective, read_objectives
from besom.config.units import Unit
from besom.errors import ConfigError
from besom.sweep.fidelity import read_fidelity
from besom.tracking.registry import check_names
from besom.workers.devices import Slot, threads_of_user

# Under `bundle=auto`. Few: on a CPU with a sampler that learns, where more trials at once make its choices worse and
# save little time. Many: everywhere else. See docs/performance.md.
_FEW_MEMBERS, _MANY_MEMBERS = 8, 64
_SHARE_AT_ONCE = 0.25
_LEARN_NOTHING = ("RandomSampler", "GridSampler", "BruteForceSampler", "QMCSampler")


AUTO = "auto"
USUAL_TRIALS = 20
"""The number of trials under `n_trials: auto`, unless each point of the space is tried once."""


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """What a study optimizes, and how it chooses the parameters of its trials.

    `source` is the name of the sweep's file, which errors name. The pruner counts in the unit `fidelity`.
    """

    objectives: tuple[Objective, ...]
    source: str
    seed: int = 0
    sampler: Mapping[str, Any] = field(default_factory=dict)
    pruner: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Unit = Unit.EPOCH
    constraints: tuple[str, ...] = ()
    custom_search_space: str | None = None
    enqueue: tuple[Mapping[str, Any], ...] = ()
    enqueue_from: str | None = None

    @classmethod
    def read(cls, config: DictConfig, keys: Mapping[str, Any], source: str, *, foreign: bool) -> SearchSpec:
        """Read the search from a sweep's whole config and the resolved keys of `hydra.sweeper`.

        Raises ConfigError naming the key.
        """
        search = cls(
            objectives=_objectives(config, keys["direction"], source, foreign=foreign),
            source=source,
            seed=_seed(config, keys["seed_key"] or "seed", source),
            sampler=_target(keys["sampler"], "sampler", "optuna.samplers.TPESampler", source),
            pruner=_target(keys["pruner"], "pruner", "optuna.pruners.HyperbandPruner", source),
            fidelity=read_fidelity(keys["fidelity"], source, foreign=foreign),
            constraints=tuple(keys["constraints"]),
            custom_search_space=keys["custom_search_space"],
            enqueue=_enqueued(keys["enqueue"], source),
            enqueue_from=keys["enqueue_from"],
        )
        if search.pruner and len(search.objectives) > 1:
            raise ConfigError(
                f"{source}: hydra.sweeper.pruner: a pruner follows one objective, and there are "
                f"{len(search.objectives)}; leave it out, or name one objective"
            )
        return search

    @property
    def objective(self) -> Objective:
        """The first objective, whose values are reported while trials run."""
        return self.objectives[0]

    @property
    def learns(self) -> bool:
        """True if the sampler chooses parameters by the results of earlier trials."""
        return str(self.sampler.get("_target_")).rpartition(".")[2] not in _LEARN_NOTHING


@dataclass(frozen=True, kw_only=True)
class BudgetSpec:
    """When a sweep ends, and how long and how often a trial may be attempted."""

    n_trials: int | None = USUAL_TRIALS
    timeout_s: float | None = None
    patience: int | None = None
    max_failure_rate: float = 1.0
    retries: int = 0
    trial_timeout_s: float | None = None

    @classmethod
    def read(cls, keys: Mapping[str, Any], source: str) -> BudgetSpec:
        """Read the budget from the resolved keys of `hydra.sweeper`. Raises ConfigError naming the key."""
        if keys["n_trials"] == AUTO:
            keys = {**keys, "n_trials": USUAL_TRIALS}
        lowest = {"n_trials": 1, "timeout": 0, "patience": 1, "max_failure_rate": 0, "retries": 0, "trial_timeout": 0}
        _check_lowest(keys, lowest, f"{source}: hydra.sweeper")
        return cls(
            n_trials=keys["n_trials"],
            timeout_s=keys["timeout"],
            patience=keys["patience"],
            max_failure_rate=keys["max_failure_rate"],
            retries=keys["retries"],
            trial_timeout_s=keys["trial_timeout"],
        )


@dataclass(frozen=True, kw_only=True)
class DevicesSpec:
    """The devices of a sweep, its worker processes, and how many trials train at once.

    `wanted` is a kind of device, a number of GPUs, or a list of their indices. `per_device` trials share a device, or
    one trial has `per_trial` devices. Each process of a trial has `threads_per_trial` CPU threads; if that is None, it
    has few, or with `share_cores` as many as there are cores for it.
    """

    wanted: str | int | Sequence[int] = "auto"
    per_device: int = 1
    per_trial: int = 1
    n_jobs: int | None = None
    max_trials_per_worker: int | None = None
    threads_per_trial: int | None = None
    share_cores: bool = False
    bundle: str | int = "off"

    @classmethod
    def read(cls, config: DictConfig, keys: Mapping[str, Any], source: str, *, foreign: bool) -> DevicesSpec:
        """Read the devices from a sweep's whole config and the resolved keys of `hydra.sweeper`.

        The trials of another app (`foreign`) are never bundled, and have the threads that the user has set in the
        environment, or share all cores. Raises ConfigError naming the key.
        """
        keys = {**keys, "devices_per_trial": max(keys["devices_per_trial"], _trainer_devices(config))}
        counts = ("max_trials_per_worker", "threads_per_trial", "trials_per_device", "devices_per_trial", "n_jobs")
        _check_lowest(keys, dict.fromkeys(counts, 1), f"{source}: hydra.sweeper")
        return cls(
            wanted=_devices(config, keys["devices"], source),
            per_device=keys["trials_per_device"],
            per_trial=keys["devices_per_trial"],
            n_jobs=keys["n_jobs"],
            max_trials_per_worker=keys["max_trials_per_worker"],
            threads_per_trial=keys["threads_per_trial"] or (threads_of_user() if foreign else None),
            share_cores=foreign,
            bundle="off" if foreign else _bundle(keys["bundle"], source),
        )

    def members(self, slots: Sequence[Slot], budget: BudgetSpec, *, learns: bool) -> int:
        """Return how many trials a slot may train at once; `slots` are all the slots.

        A trial with a time limit, or with several devices, is never bundled. Under `bundle=auto`, at most a share of
        all trials runs at once, so that a sampler that `learns` can learn from the others; workers measure which size
        is fastest.
        """
        if self.bundle == "off" or budget.trial_timeout_s is not None or self.per_trial > 1:
            return 1
        if isinstance(self.bundle, int):
            return min(self.bundle, self.max_trials_per_worker or self.bundle)
        most = _FEW_MEMBERS if learns and slots[0].device.kind == "cpu" else _MANY_MEMBERS
        most = min(self.max_trials_per_worker or most, most)
        if budget.n_trials is None:
            return most
        share = int(budget.n_trials * _SHARE_AT_ONCE / (len(slots) + 1))  # one more bundle is asked for ahead
        return max(1, min(most, share))


@dataclass(frozen=True, kw_only=True)
class FinalistsSpec:
    """The finalists, trained again after the search: the best `top` trials, each with this number of fresh `seeds`.

    `overrides` are further values for their configs, by config key; `register` is the name under which the model of the
    winner's best run is registered in MLflow. `seed_key` is the key of the seed in the config. Those of another app are
    not `tested`: Besom knows neither its test data nor its baselines.
    """

    top: int = 3
    seeds: int = 5
    overrides: Mapping[str, Any] = field(default_factory=dict)
    register: str | None = None
    seed_key: str = "seed"
    tested: bool = True

    @classmethod
    def read(cls, sweeper: Mapping[str, Any], source: str, *, of_another_app: bool = False) -> FinalistsSpec | None:
        """Read `finalists`, whose unset keys are null, and `seed_key` from the keys of `hydra.sweeper`.

        Raises ConfigError naming the key.
        """
        keys = {key: value for key, value in (sweeper["finalists"] or {}).items() if value is not None}
        seed_key = sweeper["seed_key"]
        if not of_another_app and seed_key not in (None, cls.seed_key):
            raise ConfigError(
                f"{source}: hydra.sweeper.seed_key: Besom's own configs have their seed in seed; leave it out"
            )
        if not keys:
            return None
        where = f"{source}: hydra.sweeper.finalists"
        if of_another_app and seed_key is None:
            raise ConfigError(
                f"{where}: they run with fresh seeds, and nothing says which key of the app's config is its seed; "
                "name it, as in hydra.sweeper.seed_key=seed"
            )
        if of_another_app and "register" in keys:
            raise ConfigError(
                f"{where}.register: a job of another app has no model that Besom could register; leave it out"
            )
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
        _check_lowest(keys, {"top": 1, "seeds": 1}, where)
        keys["overrides"] = {str(key): value for key, value in overrides.items()}
        return cls(**keys, seed_key=seed_key or cls.seed_key, tested=not of_another_app)


def _check_lowest(keys: Mapping[str, Any], lowest: Mapping[str, int], where: str) -> None:
    """Raise ConfigError for the first key whose value is below its lowest, or is not a number."""
    for key, low in lowest.items():
        value = keys.get(key)
        if value is None or (isinstance(value, int | float) and value >= low):
            continue
        below = isinstance(value, int | float) and value < low
        fault = f"is below {low}; raise it" if below else f"is no number; take {low} or more"
        raise ConfigError(f"{where}.{key}: {value} {fault}")


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


def _seed(config: DictConfig, key: str, source: str) -> int:
    seed = select(config, key)
    if not isinstance(seed, int):
        return 0
    if seed < 0:
        raise ConfigError(f"{source}: {key}: {seed} is below 0; take 0 or more")
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
