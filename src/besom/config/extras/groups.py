"""The config groups `callbacks` and `logger`: their nodes, and what is wrong with them before anything starts.

Nothing here imports Lightning: the parent process checks configs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from besom.config.extras.artifacts import leads_out
from besom.errors import ConfigError

_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "TensorBoardLogger": ("tensorboard", "tensorboardX"),
    "WandbLogger": ("wandb",),
    "CometLogger": ("comet_ml",),
    "NeptuneLogger": ("neptune",),
    "AimLogger": ("aim",),
    "DVCLiveLogger": ("dvclive",),
    "LitLogger": ("litlogger",),
}
"""The packages of which a logger needs one, by the name of its class."""

_MLFLOW_KEYS: Mapping[str, str] = {
    "experiment_name": "runs are in the study's experiment; set tracking.experiment instead",
    "run_name": "a run has the name of its study and trial; leave it out, and tell runs apart by tags",
    "tracking_uri": "it is the trial's own run, in Besom's store; set tracking.uri instead",
    "save_dir": "it is the trial's own run, in Besom's store; leave it out",
    "log_model": "the best weights are recorded in any case; for checkpoints, set artifacts=[checkpoints/**]",
    "checkpoint_path_prefix": "checkpoints are recorded by artifacts=[checkpoints/**]; leave it out",
    "prefix": "metrics have their own names in the trial's run; leave it out",
    "artifact_location": "artifacts are in Besom's store; leave it out",
    "run_id": "it is the trial's own run; leave it out",
    "synchronous": "runs are recorded in the background; leave it out",
}
"""The arguments of Lightning's MLFlowLogger without a meaning for a trial's own run, with the remedy of each."""


def nodes_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes of the callbacks and loggers of a resolved config, with their keys. Raises ConfigError."""
    trainer = config.get("trainer") or {}
    for group in ("callbacks", "logger"):
        for value, key in ((config.get(group), group), (trainer.get(group), f"trainer.{group}")):
            if not isinstance(value, bool):
                yield from named(value, key)


def named(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes of a group with their keys: one node, a list of them, or a mapping of names to them.

    Raises ConfigError naming an entry of another form.
    """
    if value is None:
        return
    if isinstance(value, Mapping) and "_target_" in value:
        yield key, value
        return
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        raise ConfigError(f"{key}: '{value}' names no class; write NAME: {{_target_: …}} lines")
    for name, node in entries:
        where = f"{key}[{name}]" if isinstance(name, int) else f"{key}.{name}"
        if node is None:  # as a config removes an entry of its defaults
            continue
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise ConfigError(f"{where}: '{node}' names no class; write {{_target_: …}}")
        yield where, node


def check_groups(config: Mapping[str, Any]) -> None:
    """Refuse callbacks and loggers that cannot work, by a resolved config. Raises ConfigError naming the key."""
    for key, node in nodes_of(config):
        name = str(node["_target_"]).rpartition(".")[2]
        packages = _PACKAGES.get(name, ())
        if packages and not any(map(find_spec, packages)):
            wanted = packages[0].replace("_", "-")
            raise ConfigError(f"{key}: {name} needs the package {wanted}, which is not installed: pip install {wanted}")
        if is_mlflow_logger(node):
            run_tags(node, key)


def is_mlflow_logger(node: Mapping[str, Any]) -> bool:
    """Return whether a node names Lightning's MLFlowLogger, whose run is the trial's own."""
    target = str(node["_target_"])
    return target.endswith(".MLFlowLogger") and target.startswith(("pytorch_lightning.", "lightning.pytorch."))


def run_tags(node: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return the tags that a node of MLFlowLogger gives to the trial's run. Raises ConfigError for other arguments."""
    for name, value in node.items():
        if name in _MLFLOW_KEYS and value not in (None, False, ""):
            raise ConfigError(f"{key}.{name}: {_MLFLOW_KEYS[name]}")
        if name not in (*_MLFLOW_KEYS, "tags") and not name.startswith("_"):
            raise ConfigError(f"{key}.{name}: MLFlowLogger takes no '{name}'; leave it out")
    tags = node.get("tags") or {}
    if not isinstance(tags, Mapping):
        raise ConfigError(f"{key}.tags: '{tags}' are no tags; write NAME: VALUE lines")
    for name in tags:
        if str(name).startswith(("besom.", "mlflow.")):
            raise ConfigError(f"{key}.tags.{name}: tags of this prefix are Besom's and MLflow's own; take another name")
    return {str(name): str(value) for name, value in tags.items()}


def check_places(config: Mapping[str, Any]) -> None:
    """Refuse a recorded config whose callbacks, loggers or Trainer would write outside of the trial's folder.

    Whoever wrote a run into a store chose the paths in its config. Raises ConfigError naming the key.
    """
    trainer = {f"trainer.{key}": value for key, value in (config.get("trainer") or {}).items() if key != "_target_"}
    for key, node in ({key: dict(node) for key, node in nodes_of(config)} | trainer).items():
        for where, text in _texts(node, key):
            if leads_out(text):
                raise ConfigError(
                    f"{where}: {text} is outside of the trial's folder, where a recorded config may not write; train "
                    "it from a config of your own"
                )


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    entries = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        yield from _texts(value, f"{key}[{name}]" if isinstance(name, int) else f"{key}.{name}")
