"""A job of another Hydra app: its recordable config, its environment, and its returned values."""

from __future__ import annotations

import os
import platform
import sys
import zlib
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import recordable
from besom.errors import ConfigError, TrialFailed
from besom.hydra_app.report import as_number
from besom.secrets.masks import hidden_in, hidden_override, masked_override, without_secrets

_PACKAGES = {
    "torch": "torch",
    "pytorch_lightning": "pytorch-lightning",
    "lightning": "lightning",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "numpy": "numpy",
    "hydra": "hydra-core",
}
"""Modules on whose versions a result depends, if the app imports them, and their packages."""


def about_job(config: DictConfig) -> dict[str, Any]:
    """Return the facts about a starting job for the recorder, as plain values; `config` is without `hydra`."""
    return {
        "config": plain_config(config),
        "output": masked_override(HydraConfig.get().runtime.output_dir),  # its name may contain overrides
        "threads": threads(),
        "versions": versions(),
    }


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return the recordable config of a job.

    If it cannot be resolved, it is recorded as written: an app need not use every key of its config.
    """
    try:
        masked: Any = recordable(config)
    except (ConfigError, OmegaConfBaseException):
        masked = hidden_in(OmegaConf.to_container(config, resolve=False, enum_to_str=True))
    plain = _plain(masked)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    # The recorder, in another process, may not know the app's own types.
    match value:
        case Mapping():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Enum():
            return value.name
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def threads() -> int:
    """Return the number of threads of the numeric libraries."""
    torch = sys.modules.get("torch")
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None:
        return int(torch.get_num_threads())
    return int(variable) if variable.isdecimal() else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the app has imported."""
    installed = {"python": platform.python_version()}
    for module, package in _PACKAGES.items():
        if module in sys.modules:
            try:
                installed[package] = metadata.version(package)
            except metadata.PackageNotFoundError:  # not installed as a package, or under another name
                continue
    return installed


def keep_hydra_files(config: DictConfig, hydra_config: DictConfig, directory: Path) -> None:
    """Write the files of a job that Hydra writes into its output folder, such as config.yaml, to a folder.

    They are not copied: jobs may share an output folder. `config` is the job's without `hydra_config`.
    """
    subdir = hydra_config.hydra.output_subdir
    if subdir is None:
        return
    files = {"config": config, "hydra": hydra_config, "overrides": hydra_config.hydra.overrides.task}
    (directory / subdir).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = _hydra_file(OmegaConf.to_yaml(content))
        (directory / subdir / f"{name}.yaml").write_text(text, encoding="utf-8")


def _hydra_file(text: str) -> str:
    """Return the text of a Hydra file without secrets, unchanged if there are none."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return without_secrets(text)
    recordable = _as_overrides(hidden_in(content))
    return text if recordable == content else yaml.safe_dump(recordable, sort_keys=False, allow_unicode=True)


def _as_overrides(node: Any) -> Any:
    """Return it with secrets hidden in list items, which may be overrides, and in texts that contain overrides."""
    match node:
        case dict():
            return {key: _as_overrides(value) for key, value in node.items()}
        case list():
            return [hidden_override(item) if isinstance(item, str) else _as_overrides(item) for item in node]
        case str() if "=" in node:
            return masked_override(node)
    return node


def pack_job(job: JobReturn) -> bytes:
    """Return a compressed pickle of a job's return, a few kilobytes: a sweep keeps all of them."""
    packed: bytes = zlib.compress(cloudpickle.dumps(job))
    return packed


def unpack_job(packed: bytes) -> JobReturn:
    """Return the JobReturn that `pack_job` pickled."""
    job: JobReturn = cloudpickle.loads(zlib.decompress(packed))
    return job


def read_values(returned: Any, metrics: Sequence[str], *, optional: bool = False) -> tuple[float, ...]:
    """Return the values of a job's objectives; none if `metrics` is empty.

    Raises TrialFailed when the job did not return one number per objective, unless they are `optional`.
    """
    if not metrics:
        return ()
    several = isinstance(returned, list | tuple) or (len(metrics) > 1 and getattr(returned, "ndim", 0) == 1)
    values = list(returned) if several else [returned]
    numbers = [_number(value) for value in values]
    if len(numbers) != len(metrics) or None in numbers:
        if optional:
            return ()
        wanted = "a number" if len(metrics) == 1 else f"{len(metrics)} numbers ({', '.join(metrics)})"
        raise TrialFailed(f"the task function returned {shown(returned)}; return {wanted}")
    return tuple(number for number in numbers if number is not None)


def _number(value: Any) -> float | None:
    try:
        return as_number(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def shown(returned: Any) -> str:
    """Return what a job returned as a short text, with its type."""
    text = " ".join(without_secrets(repr(returned)).split())  # mask before cutting
    cut = text if len(text) <= 60 else f"{text[:57]}..."
    return cut if returned is None else f"{cut} ({type(returned).__name__})"
