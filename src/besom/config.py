"""What a trial's config may hold: the schema that Hydra composes against, and the checks it cannot make.

The dataclasses give every shipped key its type, so that an unknown key or a wrong type fails while the
config is composed, with the key named. `check` then refuses what types cannot: a batch size of 0, a model
that does not fit the task's objective. Nothing here imports torch: the parent process composes and checks
while its workers are still starting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.errors import ConfigError, one_of
from besom.explain import explain
from besom.models.metrics import metric_names

DIRECTIONS = ("minimize", "maximize")


@dataclass
class EarlyStopping:
    """Stop when the objective has not improved by `min_delta` for `patience` epochs; null: never."""

    patience: int | None = None
    min_delta: float = 0.0


@dataclass
class Train:
    """The root of a trial's config."""

    seed: int = 0
    objective: str = "val/loss"
    direction: str = "minimize"
    test: bool = False
    threads: Any = "auto"
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    trainer: Any = MISSING
    tracking: Any = MISSING


@dataclass
class Data:
    """An in-memory data set: where it comes from, how it is scaled, split and batched."""

    _target_: str = "besom.data.InMemoryDataModule"
    source: dict[str, Any] = MISSING
    batch_size: int | None = 64
    eval_batch_size: int = 8192
    scaling: Any = "standard"
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    split_seed: int = 0
    shuffle_seed: int = "${seed}"  # type: ignore[assignment]
    limit: int | None = None


@dataclass
class CsvSource:
    """A user's own table: see `besom.data.tables.csv`."""

    _target_: str = "besom.data.tables.csv"
    path: str = MISSING
    target: str = MISSING
    task: str = "auto"
    features: list[str] | None = None
    test_path: str | None = None
    separator: str | None = None


@dataclass
class CsvData(Data):
    """The data config of a user's own table."""

    source: CsvSource = field(default_factory=CsvSource)  # type: ignore[assignment]


@dataclass
class Linear:
    """LinearRegression and LogisticRegression."""

    _target_: str = MISSING
    init: str = "default"
    seed: int = "${seed}"  # type: ignore[assignment]
    monitor: str = "val/loss"
    gradient_clip_norm: float | None = None


@dataclass
class Mlp(Linear):
    """MLPClassifier: `hidden_sizes`, or `width` and `depth`."""

    hidden_sizes: list[int] | None = None
    width: int = 128
    depth: int = 2
    activation: str = "relu"
    dropout: float = 0.0
    batch_norm: bool = False


@dataclass
class MlpRegressor(Mlp):
    """MLPRegressor."""

    output_activation: str = "linear"


@dataclass
class Sgd:
    """torch.optim.SGD."""

    _target_: str = "torch.optim.SGD"
    _partial_: bool = True
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.0


@dataclass
class Adam:
    """torch.optim.Adam and AdamW."""

    _target_: str = "torch.optim.Adam"
    _partial_: bool = True
    lr: float = 0.001
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False


@dataclass
class Rmsprop:
    """torch.optim.RMSprop; `alpha` is what others call rho."""

    _target_: str = "torch.optim.RMSprop"
    _partial_: bool = True
    lr: float = 0.001
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0


@dataclass
class Adagrad:
    """torch.optim.Adagrad."""

    _target_: str = "torch.optim.Adagrad"
    _partial_: bool = True
    lr: float = 0.01
    lr_decay: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0


@dataclass
class Cosine:
    """torch.optim.lr_scheduler.CosineAnnealingLR, over the whole run unless `T_max` says otherwise."""

    _target_: str = "torch.optim.lr_scheduler.CosineAnnealingLR"
    _partial_: bool = True
    T_max: int = "${trainer.max_epochs}"  # type: ignore[assignment]
    eta_min: float = 0.0


@dataclass
class Step:
    """torch.optim.lr_scheduler.StepLR, in epochs."""

    _target_: str = "torch.optim.lr_scheduler.StepLR"
    _partial_: bool = True
    step_size: int = 10
    gamma: float = 0.1


@dataclass
class Plateau:
    """torch.optim.lr_scheduler.ReduceLROnPlateau on `model.monitor`."""

    _target_: str = "torch.optim.lr_scheduler.ReduceLROnPlateau"
    _partial_: bool = True
    mode: str = "min"
    factor: float = 0.1
    patience: int = 5
    min_lr: float = 0.0


@dataclass
class Trainer:
    """What goes to Lightning's Trainer; anything else it takes can be added with `+trainer.KEY=…`."""

    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    max_epochs: int = 10
    max_time: str | None = None
    deterministic: bool = True


@dataclass
class Tracking:
    """Where runs are recorded; `uri: null` is the SQLite store under `directory`."""

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None
    directory: str = "mlruns"


def register_schemas() -> None:
    """Make the schemas known to Hydra, as `/schema/…` configs that the files under conf/ start from."""
    store = ConfigStore.instance()
    nodes: Mapping[str, Any] = {
        "train": Train,
        "data": Data,
        "csv": CsvData,
        "linear": Linear,
        "mlp": Mlp,
        "mlp_regressor": MlpRegressor,
        "sgd": Sgd,
        "adam": Adam,
        "rmsprop": Rmsprop,
        "adagrad": Adagrad,
        "cosine": Cosine,
        "step": Step,
        "plateau": Plateau,
        "trainer": Trainer,
        "tracking": Tracking,
    }
    for name, node in nodes.items():
        store.store(group="schema", name=name, node=node, provider="besom")


_BOUNDS: Mapping[str, tuple[float, float, str]] = {
    "data.batch_size": (1, float("inf"), "take at least one sample, or null for the full batch"),
    "data.eval_batch_size": (1, float("inf"), "take at least one sample"),
    "trainer.max_epochs": (1, float("inf"), "train for at least one epoch"),
    "optimizer.lr": (0, float("inf"), "a learning rate is not negative"),
    "early_stopping.patience": (1, float("inf"), "wait at least one epoch, or null to never stop early"),
}


def require_groups(config: DictConfig, source: str) -> None:
    """Refuse the config of a file that does not build on conf/train.yaml.

    Raises ConfigError naming the file and what it lacks.
    """
    groups = ("data", "model", "optimizer", "scheduler", "trainer", "tracking")
    if missing := [name for name in groups if name not in config]:
        raise ConfigError(f"{source}: it has no {', '.join(missing)}; begin the file with: defaults: [train, _self_]")


def check(config: DictConfig) -> None:
    """Refuse a composed config that cannot be trained.

    Raises ConfigError with the key, its value and the remedy in one line.
    """
    for key, (low, high, remedy) in _BOUNDS.items():
        value = select(config, key)
        if isinstance(value, int | float) and not low <= value <= high:
            raise ConfigError(f"{key}: {value} is below {low:g}; {remedy}")
    direction = select(config, "direction")
    if direction not in DIRECTIONS:
        raise ConfigError(f"direction: '{direction}' is unknown; use {' or '.join(DIRECTIONS)}")
    threads = select(config, "threads")
    if threads != "auto" and not (isinstance(threads, int) and threads >= 1):
        raise ConfigError(f"threads: '{threads}' is not a number of threads; use auto, or 1 or more")
    accelerator = select(config, "trainer.accelerator")
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ConfigError(f"trainer.accelerator: '{accelerator}' is unknown; use auto, cpu or gpu")
    _check_objective(config)
    _check_table(config)
    if select(config, "data.val_fraction") == 0.0 and str(select(config, "objective")).startswith("val/"):
        raise ConfigError(
            f"objective: '{config.objective}' needs a validation part, but data.val_fraction is 0; "
            "use a train/ metric, or hold some data out"
        )


_TASKS: Mapping[str, Sequence[str]] = {
    "LinearRegression": ("regression",),
    "MLPRegressor": ("regression",),
    "LogisticRegression": ("binary", "multiclass"),
    "MLPClassifier": ("binary", "multiclass"),
}


def _check_objective(config: DictConfig) -> None:
    package, _, model = str(select(config, "model._target_")).rpartition(".")
    if package != "besom.models" or model not in _TASKS:
        return  # a user's own model logs what it likes
    names = sorted({name for task in _TASKS[model] for name in metric_names(task)})
    known = [f"{part}/{name}" for part in ("train", "val") for name in names]
    if config.objective not in known:
        raise ConfigError(
            f"objective: '{config.objective}' is not a metric of {model}; {one_of(config.objective, known)}"
        )


def _check_table(config: DictConfig) -> None:
    if select(config, "data.source._target_") != "besom.data.tables.csv":
        return
    for key in ("data.source.path", "data.source.test_path"):
        path = select(config, key)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"{key}: {path}: no such file; give the path of a .csv, .tsv or .parquet file")


def select(config: DictConfig, key: str) -> Any:
    """Return the value at a dotted key, or None where the config has no such key.

    Raises ConfigError when the value cannot be resolved: a missing mandatory value, a broken interpolation.
    """
    try:
        return OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, every interpolation resolved: what a worker trains from.

    Raises ConfigError naming the key that is mandatory and missing, or that cannot be resolved.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def recordable(config: DictConfig) -> dict[str, Any]:
    """Return the config as it may be recorded: resolved, but for what came from the environment.

    `${oc.env:…}`, and whatever refers to it, stays as it is written, so that no value of an environment variable
    reaches a run, and the same config works on another machine. Passwords in URIs are masked.
    """

    written = OmegaConf.to_container(config, resolve=False)
    secrets = [str(value) for value in _from_environment(config, written) if value not in (None, "")]

    def plain(node: Any, text: Any) -> Any:
        if isinstance(node, DictConfig) and isinstance(text, dict):
            return {str(key): plain(_get(node, key), value) for key, value in text.items()}
        if isinstance(node, ListConfig) and isinstance(text, list):
            return [plain(node[index], value) for index, value in enumerate(text)]
        value = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node
        if isinstance(text, str) and "${" in text and (_ENV in text or any(one in str(value) for one in secrets)):
            return text
        return value

    masked = _masked(plain(config, written))
    assert isinstance(masked, dict)
    return masked


_ENV = "${oc.env:"


def _from_environment(node: Any, text: Any) -> Iterator[Any]:
    """Yield the values of environment variables in a config; `text` is the config as it is written."""
    if isinstance(node, DictConfig) and isinstance(text, dict):
        for key, value in text.items():
            yield from _from_environment(_get(node, key), value)
    elif isinstance(node, ListConfig) and isinstance(text, list):
        for index, value in enumerate(text):
            yield from _from_environment(node[index], value)
    elif isinstance(text, str) and _ENV in text:
        yield node


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _get(node: DictConfig, key: Any) -> Any:
    return None if node._is_none() else node[key]


def mask(text: str) -> str:
    """Return the text with the password of every URI in it replaced by `***`."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1:***@", text)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, leaf value) for every leaf; lists and empty mappings are leaves."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
