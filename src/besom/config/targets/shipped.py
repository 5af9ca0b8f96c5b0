"""The targets that Besom, torch and Lightning ship to be built, recognized by name and by definition."""

from __future__ import annotations

import inspect
import re
from typing import Any

_NAMES = re.compile(
    r"besom\.(data|models)(\.[a-z]\w*)?\.[A-Z]\w*"
    r"|besom\.data\.(sources|tables)\.[a-z]\w*"
    r"|besom\.PruningCallback|besom\.hydra_app\.callback\.PruningCallback"
    r"|torch\.nn(\.modules\.[a-z]\w*)?\.[A-Z]\w*"
    r"|torch\.nn\.(functional|init)\.[a-z]\w*"
    r"|torch\.optim(\.[a-z]\w*)?\.[A-Z]\w*"
    r"|(pytorch_lightning|lightning\.pytorch)\.((callbacks|loggers)(\.[a-z]\w*)?\.[A-Z]\w*|Trainer)"
)
_HOMES = re.compile(
    r"besom\.(data|models|hydra_app\.callback)|torch\.(nn|optim)|torch\._C\._nn|"
    r"(pytorch_lightning|lightning\.pytorch)\.(callbacks|loggers|trainer\.trainer)"
)
"""The modules, including submodules, that define the shipped targets."""
_KINDS = {
    f"{home}.{name}"
    for home, names in {
        "torch.nn.modules.module": ("Module",),
        "torch.optim.optimizer": ("Optimizer",),
        "torch.optim.lr_scheduler": ("LRScheduler",),
        "pytorch_lightning": ("core.datamodule.LightningDataModule", "callbacks.callback.Callback",
                              "loggers.logger.Logger", "trainer.trainer.Trainer"),
        "lightning.pytorch": ("core.datamodule.LightningDataModule", "callbacks.callback.Callback",
                              "loggers.logger.Logger", "trainer.trainer.Trainer"),
        "besom.hydra_app.callback": ("PruningCallback",),
    }.items()
    for name in names
}  # fmt: skip
"""The base classes of shipped targets, by name, so that nothing need be imported."""
_FUNCTIONS = ("torch.nn.functional", "torch.nn.init", "torch._C._nn")
_SOURCES = ("besom.data.sources", "besom.data.tables.source")


def is_named_like_shipped(target: str) -> bool:
    """Return whether a target has the name of a shipped one: a check before any import, and no proof."""
    return _NAMES.fullmatch(target) is not None


def is_shipped(target: Any) -> bool:
    """Return whether an imported object is a shipped target, whatever its name says."""
    home = home_of(target)
    module, _, name = home.rpartition(".")
    if not re.match(rf"({_HOMES.pattern})(\.|$)", module) or name.startswith("_"):
        return False
    if isinstance(target, type):
        return any(f"{base.__module__}.{base.__qualname__}" in _KINDS for base in target.__mro__)
    if module in _FUNCTIONS:
        return True
    return module in _SOURCES and inspect.signature(target).return_annotation in ("Source", "besom.data.dataset.Source")


def home_of(target: Any) -> str:
    """Return the qualified name by which an object was defined; "" unless it is a class or function."""
    target = inspect.unwrap(target) if callable(target) else target
    target = getattr(target, "__func__", target)
    if isinstance(target, type) or inspect.isroutine(target):
        module = getattr(target, "__module__", None) or getattr(
            getattr(target, "__self__", None), "__name__", "builtins"
        )
        return f"{module}.{target.__qualname__}"
    return ""
