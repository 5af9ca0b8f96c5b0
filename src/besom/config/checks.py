"""The checks of a composed config that types cannot make, and its forms for a worker, a recorded run, and params.

Nothing here imports torch: the parent process composes and checks while its workers are still starting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.config.extras.artifacts import check_artifacts
from besom.config.extras.groups import check_groups
from besom.config.messages import explain
from besom.config.objectives import COSTS, leading, metric_names, read_objectives
from besom.config.trainer import check_trainer
from besom.config.tuning import check_tuning
from besom.errors import ConfigError, one_of
from besom.secrets.masks import hidden_in, remember

Config: TypeAlias = DictConfig | Mapping[str, Any]

_FIGURES = ("auto", "all", "none")
_VIEWS = ("auto", "off")
_MATMUL_PRECISIONS = ("highest", "high", "medium")
_SEED = "seeds are whole numbers from 0 to 4294967295"
_BOUNDS: Mapping[str, tuple[float, float, str]] = {
    "seed": (0, 2**32 - 1, _SEED),  # Lightning's and NumPy's
    "model.seed": (0, 2**32 - 1, _SEED),
    "data.shuffle_seed": (0, 2**32 - 1, _SEED),
    "data.split_seed": (-(2**63), 2**64 - 1, "torch takes no seed beyond 64 bits"),
    "data.batch_size": (1, float("inf"), "take at least one sample, or null for the full batch"),
    "data.eval_batch_size": (1, float("inf"), "take at least one sample"),
    "scheduler.T_max": (1, float("inf"), "give it a number of epochs; trainer.max_epochs is its default"),
    "optimizer.lr": (0, float("inf"), "a learning rate is not negative"),
    "evaluation.folds": (2, float("inf"), "deal at least two folds, or null for one validation part"),
    "best_weights_in_memory_mb": (0, float("inf"), "0 keeps them in a file, null in memory up to 100 MB"),
    "early_stopping.patience": (1, float("inf"), "wait at least one epoch, or null to never stop early"),
}


def require_groups(config: DictConfig, source: str) -> None:
    """Refuse the config of a file that does not build on conf/train.yaml.

    Raises ConfigError naming the file and the missing config groups.
    """
    groups = ("data", "model", "optimizer", "scheduler", "trainer", "tracking")
    if missing := [name for name in groups if name not in config]:
        raise ConfigError(f"{source}: it has no {', '.join(missing)}; begin the file with: defaults: [train, _self_]")


def check(config: Config) -> None:
    """Refuse a composed config, resolved or not, that cannot be trained.

    Raises ConfigError with the key, its value and the remedy in one line.
    """
    for key, (low, high, remedy) in _BOUNDS.items():
        value = select(config, key)
        if isinstance(value, int | float) and not low <= value <= high:
            side = f"below {low:g}" if value < low else f"above {high:g}" if value > high else "no number"
            raise ConfigError(f"{key}: {value} is {side}; {remedy}")
    threads = select(config, "threads")
    if threads != "auto" and not (isinstance(threads, int) and threads >= 1):
        raise ConfigError(f"threads: '{threads}' is not a number of threads; use auto, or 1 or more")
    precision = select(config, "matmul_precision")
    if precision not in (None, *_MATMUL_PRECISIONS):
        raise ConfigError(f"matmul_precision: '{precision}' is unknown; {one_of(str(precision), _MATMUL_PRECISIONS)}")
    figures = select(config, "figures")
    if figures not in (None, *_FIGURES):
        raise ConfigError(f"figures: '{figures}' is unknown; {one_of(str(figures), _FIGURES)}")
    check_views(select(config, "tracking.views"), "tracking.views")
    accelerator = select(config, "trainer.accelerator")
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ConfigError(f"trainer.accelerator: '{accelerator}' is unknown; use auto, cpu or gpu")
    _check_objective(config)
    objectives = read_objectives({key: select(config, key) for key in ("objective", "direction")})
    names = tuple(objective.name for objective in objectives)
    check_trainer(_node(config, "trainer"), names, _node(config, "model"))
    check_tuning(tuning_of(config), folds=folds_of(config), trainer=_node(config, "trainer"))
    _check_extras(config)
    _check_table(config)
    if select(config, "test") is True and not has_test_part(config):
        raise ConfigError("test: the data has no test part; set data.test_fraction, or test=false")
    val_objectives = [each.name for each in read_objectives(config) if each.name.startswith("val/")]
    if folds_of(config) is not None:
        _check_refit(config)
    elif select(config, "data.val_fraction") == 0.0 and val_objectives:
        raise ConfigError(
            f"objective: '{val_objectives[0]}' needs a validation part, but data.val_fraction is 0; "
            "use a train/ metric, or hold some data out"
        )


def has_test_part(config: Config) -> bool:
    """Return whether there is data to test on, as far as known before it is read, which is for Besom's sources only."""
    source = str(select(config, "data.source._target_"))
    if not source.startswith("besom.data.") or source.endswith("mnist"):  # which have an official test part
        return True
    return select(config, "data.test_fraction") != 0 or select(config, "data.source.test_path") is not None


def folds_of(config: Config) -> int | None:
    """Return the number of folds of a config, or None for one validation part."""
    folds = select(config, "evaluation.folds")  # older recorded configs lack this key
    return folds if isinstance(folds, int) else None


def tuning_of(config: Config) -> Mapping[str, Any]:
    """Return the config group `tune`; empty where nothing is tuned. Raises ConfigError for a value that is no group."""
    tune = select(config, "tune")  # older recorded configs lack this key
    if tune is not None and not isinstance(tune, Mapping | DictConfig):
        raise ConfigError(f"tune: '{tune}' is no config of that group; use none, lr or batch_size")
    return _node(config, "tune")


def _check_refit(config: Config) -> None:
    """Refuse a scheduler that monitors a validation part: the final model of cross-validation trains without one."""
    monitor = str(select(config, "model.monitor") or "val/loss")
    if str(select(config, "scheduler._target_")).endswith(".ReduceLROnPlateau") and monitor.startswith("val/"):
        raise ConfigError(
            f"model.monitor: the plateau scheduler watches {monitor}, and with evaluation.folds the model that is kept "
            "trains on all folds, without a validation part; set model.monitor=train/loss, or take another scheduler"
        )


_TASKS: Mapping[str, Sequence[str]] = {
    "LinearRegression": ("regression",),
    "MLPRegressor": ("regression",),
    "LogisticRegression": ("binary", "multiclass"),
    "MLPClassifier": ("binary", "multiclass"),
}


def _check_objective(config: Config) -> None:
    objectives = read_objectives({key: select(config, key) for key in ("objective", "direction")})
    leading(objectives)
    package, _, model = str(select(config, "model._target_")).rpartition(".")
    if package != "besom.models" or model not in _TASKS:
        return  # a user's own model may log any metric
    names = sorted({name for task in _TASKS[model] for name in metric_names(task)})
    known = [*(f"{part}/{name}" for part in ("train", "val") for name in names), *COSTS]
    for objective in objectives:
        if objective.name not in known:
            raise ConfigError(
                f"objective: '{objective.name}' is not a metric of {model}; {one_of(objective.name, known)}"
            )


def _check_extras(config: Config) -> None:
    keys = ("callbacks", "logger", "trainer.callbacks", "trainer.logger", "artifacts")
    callbacks, logger, more_callbacks, more_loggers, artifacts = (_plain(select(config, key)) for key in keys)
    if callbacks or logger or more_callbacks or more_loggers:
        trainer = {"callbacks": more_callbacks, "logger": more_loggers}
        check_groups({"callbacks": callbacks, "logger": logger, "trainer": trainer})
    check_artifacts(artifacts or ())


def _plain(value: Any) -> Any:
    """Return the value of a key without interpolations. Raises ConfigError as `select` does."""
    try:
        return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def check_views(value: Any, where: str) -> None:
    """Refuse an unknown value of `tracking.views`, at the key `where`. Raises ConfigError."""
    if value not in (None, False, *_VIEWS):
        raise ConfigError(f"{where}: '{value}' is unknown; {one_of(str(value), _VIEWS)}")


def _check_table(config: Config) -> None:
    if select(config, "data.source._target_") != "besom.data.tables.csv":
        return
    for key in ("data.source.path", "data.source.test_path"):
        path = select(config, key)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"{key}: {path}: no such file; give the path of a .csv, .tsv or .parquet file")


def select(config: Config, key: str) -> Any:
    """Return the value at a dotted key, or None if the config lacks it.

    Raises ConfigError for a value that cannot be resolved: a missing mandatory value, a broken interpolation.
    """
    if not isinstance(config, DictConfig):
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node
    try:
        return OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def _node(config: Config, key: str) -> Mapping[str, Any]:
    """Return the values directly under a key. Raises ConfigError as `select` does."""
    node = select(config, key)
    return {str(name): select(config, f"{key}.{name}") for name in node or {}}


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values for a worker, with all interpolations resolved.

    Raises ConfigError naming the key that is missing or cannot be resolved.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(_located(config) or error)) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _located(node: DictConfig | ListConfig) -> OmegaConfBaseException | None:
    """Return the error of the first value that cannot be resolved; the whole config's error does not name the key."""
    if node._is_none() or node._is_missing():
        return None
    keys: Sequence[Any] = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            return error
        if isinstance(value, DictConfig | ListConfig) and (found := _located(value)) is not None:
            return found
    return None


def recordable(config: DictConfig) -> dict[str, Any]:
    """Return the config as it may be recorded: resolved, except for values of environment variables and secrets.

    `${oc.env:…}`, and all that refers to it, stays as written, so that no value of an environment variable is recorded,
    and the same config works on another machine. So do secrets, by `besom.secrets.masks`.
    """

    written = OmegaConf.to_container(config, resolve=False)
    env_values = [str(value) for value in _from_environment(config, written) if value not in (None, "")]

    def plain(node: Any, text: Any) -> Any:
        if isinstance(node, DictConfig) and isinstance(text, dict):
            return {str(key): plain(_get(node, key), value) for key, value in text.items()}
        if isinstance(node, ListConfig) and isinstance(text, list):
            return [plain(node[index], value) for index, value in enumerate(text)]
        value = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node
        if (
            isinstance(text, str)
            and "${" in text
            and (_ENV in text or any(secret in str(value) for secret in env_values))
        ):
            return text
        return value

    hidden = hidden_in(plain(config, written))
    assert isinstance(hidden, dict)
    return hidden


_ENV = "${oc.env:"
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)")


def _from_environment(node: Any, text: Any) -> Iterator[Any]:
    """Yield and remember the values of environment variables in a config; `text` is the config as written.

    The path of a folder is not remembered: it is no secret, and tracebacks are full of paths below a project's root.
    """
    if isinstance(node, DictConfig) and isinstance(text, dict):
        for key, value in text.items():
            yield from _from_environment(_get(node, key), value)
    elif isinstance(node, ListConfig) and isinstance(text, list):
        for index, value in enumerate(text):
            yield from _from_environment(node[index], value)
    elif isinstance(text, str) and _ENV in text:
        for name in _VARIABLE.findall(text):
            value = os.environ.get(name, "")
            if not (value.startswith(os.sep) and os.path.isdir(value)):  # noqa: PTH112  (Path raises for a long token)
                remember(value, f"${{oc.env:{name}}}")
        yield node


def _get(node: DictConfig, key: Any) -> Any:
    return None if node._is_none() else node[key]


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, leaf value) for every leaf; lists and empty mappings are leaves."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
