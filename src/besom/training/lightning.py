"""Lightning's two packages, `pytorch_lightning` and `lightning.pytorch`, whose classes have the same names only.

A trial trains with the package of its module. A data module of the other package is adapted, and targets of the other
package are replaced by their counterparts.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeAlias

import pytorch_lightning as pl
from torch.nn.parameter import is_lazy

from besom.errors import ConfigError, in_one_line

Package: TypeAlias = ModuleType
"""One of the two: the interfaces are the same, so that a type checker sees `pytorch_lightning`."""

_FABRICS = ("lightning_fabric.", "lightning.fabric.")
_PACKAGES = ("pytorch_lightning", "lightning.pytorch")
_DATA_HOOKS = (
    "prepare_data", "setup", "teardown", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader",
    "transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer", "on_exception",
)  # fmt: skip


def base_of(kind: type, name: str) -> type | None:
    """Return the `name`, LightningModule or LightningDataModule, that a class derives from; None if from neither."""
    for package in _PACKAGES:
        base = getattr(sys.modules.get(package), name, None)
        if isinstance(base, type) and issubclass(kind, base):
            return base
    return None


def package_of(module: pl.LightningModule) -> Package:
    """Return the package that a module is written with."""
    other = base_of(type(module), "LightningModule") is not pl.LightningModule
    return importlib.import_module(_PACKAGES[other])


def builds_later(module: pl.LightningModule) -> bool:
    """Return whether a module has parameters still to come: by `configure_model`, or of lazy layers."""
    base: Any = base_of(type(module), "LightningModule")
    return type(module).configure_model is not base.configure_model or any(map(is_lazy, module.parameters()))


def logger_step(trainer: pl.Trainer) -> int:
    """Return the step that Lightning passes to loggers: the number of batches that stepped, before the present one."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def logged_by_step(trainer: pl.Trainer) -> list[str]:
    """Return the names in `trainer.callback_metrics` that hold the value of a single training step."""
    logged = (metric.meta for metric in (trainer.fit_loop.epoch_loop._results or {}).values())
    return [f"{meta.name}_step" if meta.on_epoch else meta.name for meta in logged if meta.on_step and meta.logger]


def adapted(data: pl.LightningDataModule, package: Package) -> pl.LightningDataModule:
    """Return a data module for a Trainer of a package: itself, or one that calls its hooks and has its attributes."""
    own, wanted = base_of(type(data), "LightningDataModule"), package.LightningDataModule
    if own is wanted:
        return data

    def calling(hook: str) -> Any:
        def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
            data.trainer = self.trainer
            return getattr(data, hook)(*arguments, **keywords)

        return call

    lightnings = vars(wanted())

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name in vars(data) and name not in lightnings:
            setattr(data, name, value)  # such as a batch size that is tuned
        else:
            object.__setattr__(self, name, value)

    # Only the hooks that it defines: Lightning prefers those of a data module to those of the module.
    defined = [hook for hook in _DATA_HOOKS if getattr(type(data), hook) is not getattr(own, hook)]
    members: dict[str, Any] = {hook: calling(hook) for hook in defined}
    members["__getattr__"] = lambda self, name: getattr(data, name)  # a module may ask self.trainer.datamodule
    members["__setattr__"] = set_attribute
    adapter: pl.LightningDataModule = type(type(data).__name__, (wanted,), members)()
    return adapter


def for_package(node: Any, package: Package) -> Any:
    """Return a config node in which Lightning's targets are those of a package."""
    if isinstance(node, Mapping):
        return {key: for_package(value, package) for key, value in node.items()}
    if isinstance(node, list):
        return [for_package(value, package) for value in node]
    if isinstance(node, str):
        for name in _PACKAGES:
            if node.startswith(f"{name}."):
                return f"{package.__name__}{node.removeprefix(name)}"
    return node


@contextmanager
def refusals_of(package: Package, where: str = "trainer") -> Iterator[None]:
    """Turn what Lightning itself refuses while it trains into a ConfigError of one line that begins with a key."""
    try:
        yield
    except (ImportError, TypeError, ValueError, package.utilities.exceptions.MisconfigurationException) as error:
        *_, last = traceback.walk_tb(error.__traceback__)
        if last[0].f_globals.get("__name__", "").startswith((f"{package.__name__}.", *_FABRICS)):
            raise ConfigError(f"{where}: {in_one_line(error)}") from error
        raise  # an error in the user's own code
