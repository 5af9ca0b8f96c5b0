"""What is known of a job of another Hydra app: its config as it may be recorded, where it runs, what it returned."""

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
"""Modules whose versions a result depends on, where an app imported them, and the packages that they come in."""


def about_job(config: DictConfig) -> dict[str, Any]:
    """Return what a recorder wants of the job that begins, in plain values; `config` is without `hydra`."""
    return {
        "config": plain_config(config),
        "output": masked_override(HydraConfig.get().runtime.output_dir),  # its name may be of overrides
        "threads": threads(),
        "versions": versions(),
    }


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return a job's config as it may be recorded.

    What cannot be resolved stays as it is written: an app need not read every key of its config.
    """
    try:
        found: Any = recordable(config)
    except (ConfigError, OmegaConfBaseException):
        found = hidden_in(OmegaConf.to_container(config, resolve=False, enum_to_str=True))
    plain = _plain(found)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    # A value of a type of the app's own would not be understood by who records it.
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
    """How many threads the libraries of numbers may use."""
    torch = sys.modules.get("torch")
    given = os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None:
        return int(torch.get_num_threads())
    return int(given) if given.isdecimal() else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """The versions of Python and of those packages that the app has imported."""
    found = {"python": platform.python_version()}
    for module, package in _PACKAGES.items():
        if module in sys.modules:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:  # built by hand, or under another name
                continue
    return found


def keep_hydra_files(config: DictConfig, directory: Path) -> None:
    """Copy what Hydra wrote of a job's config to a folder; `config` is the job's, or its `hydra` alone."""
    subdir, output = config.hydra.output_subdir, config.hydra.runtime.get("output_dir")
    if subdir is None or output is None:
        return
    for file in sorted((Path(output) / subdir).glob("*.yaml")):
        target = directory / subdir / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_hydra_file(file.read_text(encoding="utf-8")), encoding="utf-8")


def _hydra_file(text: str) -> str:
    """What Hydra wrote, without secrets: as it is where there are none."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return without_secrets(text)
    recordable = _as_overrides(hidden_in(found))
    return text if recordable == found else yaml.safe_dump(recordable, sort_keys=False, allow_unicode=True)


def _as_overrides(found: Any) -> Any:
    """The same, where the items of lists may be overrides, and other texts, such as folders, be made of some."""
    match found:
        case dict():
            return {key: _as_overrides(value) for key, value in found.items()}
        case list():
            return [hidden_override(one) if isinstance(one, str) else _as_overrides(one) for one in found]
        case str() if "=" in found:
            return masked_override(found)
    return found


def pack_job(job: JobReturn) -> bytes:
    """Return what Hydra is given back of a job in a few kilobytes: a sweep keeps all of them."""
    packed: bytes = zlib.compress(cloudpickle.dumps(job))
    return packed


def unpack_job(packed: bytes) -> JobReturn:
    """Return what `pack_job` packed."""
    job: JobReturn = cloudpickle.loads(zlib.decompress(packed))
    return job


def read_values(returned: Any, metrics: Sequence[str]) -> tuple[float, ...]:
    """Return the values of a job's objectives; none when nothing is asked of it.

    Raises TrialFailed when the job returned something else than a number, or than as many as there are objectives.
    """
    if not metrics:
        return ()
    values = list(returned) if isinstance(returned, list | tuple) else [returned]
    numbers = [_number(value) for value in values]
    if len(numbers) != len(metrics) or None in numbers:
        wanted = "a number" if len(metrics) == 1 else f"{len(metrics)} numbers ({', '.join(metrics)})"
        raise TrialFailed(f"the task function returned {_shown(returned)}; return {wanted}")
    return tuple(number for number in numbers if number is not None)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last one, for a tensor of several elements
        return None


def _shown(returned: Any) -> str:
    text = " ".join(without_secrets(repr(returned)).split())  # before it is cut
    cut = text if len(text) <= 60 else f"{text[:57]}..."
    return cut if returned is None else f"{cut} ({type(returned).__name__})"
