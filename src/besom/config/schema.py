"""The schema of a trial's config: every shipped key and its type.

Hydra composes against these dataclasses, so that an unknown key or a wrong type fails while the config is
composed, with the key named. The files under conf/ extend them: `defaults: [/schema@_here_: mlp]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from besom.config.hydra_versions import store


@dataclass
class EarlyStopping:
    """Stop when the objective has not improved by `min_delta` for `patience` validations; null: never."""

    patience: int | None = None
    min_delta: float = 0.0


@dataclass
class Evaluation:
    """The evaluation of a model: on one validation part, or by the mean over `folds`."""

    folds: int | None = None


@dataclass
class Train:
    """The root of a trial's config."""

    seed: int = 0
    objective: Any = "val/loss"  # a metric, or a list of them
    direction: Any = "minimize"
    test: bool = False
    threads: Any = "auto"
    matmul_precision: str = "highest"
    figures: str = "auto"
    evaluation: Evaluation = field(default_factory=Evaluation)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    trainer: Any = MISSING
    tune: Any = None
    callbacks: Any = None  # a mapping of names to callbacks
    logger: Any = None  # a mapping of names to loggers
    artifacts: list[str] = field(default_factory=list)
    best_weights_in_memory_mb: float | None = None
    tracking: Any = MISSING


@dataclass
class Data:
    """An in-memory data set: its source, scaling, split and batches."""

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
    categories: list[str] | None = None
    separator: str | None = None
    decimal: str = "."
    thousands: str | None = None
    missing: list[str] | None = None
    drop_missing: bool = False
    encoding: str | None = None
    compression: str | None = None
    skip_rows: int = 0


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
    """The arguments of Lightning's Trainer that have a default or a type here; others can be set as well."""

    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    max_epochs: int | None = 10
    max_time: Any = None
    deterministic: Any = True  # or warn


@dataclass
class TuneLr:
    """Lightning's Tuner.lr_find; other arguments of it can be added with `+tune.KEY=…`."""

    method: str = "lr_find"
    key: str | None = None
    min_lr: float = 1e-8
    max_lr: float = 1.0
    num_training: int = 100
    mode: str = "exponential"
    early_stop_threshold: float | None = 4.0


@dataclass
class TuneBatchSize:
    """Lightning's Tuner.scale_batch_size; other arguments of it can be added with `+tune.KEY=…`."""

    method: str = "scale_batch_size"
    key: str | None = None
    mode: str = "power"
    init_val: int = 2
    steps_per_trial: int = 3
    max_trials: int = 25


@dataclass
class Tracking:
    """The place where runs are recorded; `uri: null` is the SQLite store under `directory`.

    `views` chooses whether a sweep adds a dashboard to MLflow's page: `auto` if that version supports it, or `off`.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None
    directory: str = "mlruns"
    views: Any = "auto"  # off is a boolean in YAML


def register_schemas() -> None:
    """Register the schemas with Hydra, as `/schema/…` configs that the files under conf/ extend.

    Also keep Hydra from copying all registered configs each time it composes, or looks into a group: it copies a config
    when it reads it, and `besom train --help`, which looks into all groups, takes 0.2 instead of 1.6 s.
    """
    ConfigStore.__deepcopy__ = lambda store, _memo: store  # type: ignore[attr-defined]
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
        "trainer": OmegaConf.structured(Trainer, flags={"struct": False}),
        "lr": TuneLr,
        "batch_size": TuneBatchSize,
        "tracking": Tracking,
    }
    for name, node in nodes.items():
        store("schema", name, node)
