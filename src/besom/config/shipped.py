"""What Besom, torch and Lightning ship to be built by a config, told by its name, and by what lies under that name."""

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
"""The modules, with those below them, that define what is shipped to be built."""
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
"""The classes that what is built derives from. They are told by their names, so that nothing need be imported."""
_FUNCTIONS = ("torch.nn.functional", "torch.nn.init", "torch._C._nn")
_SOURCES = ("besom.data.sources", "besom.data.tables.source")


def is_named_like_shipped(target: str) -> bool:
    """Whether a target's name is such as what is shipped has: a gate before anything is imported, and no proof."""
    return _NAMES.fullmatch(target) is not None


def is_shipped(found: Any) -> bool:
    """Whether what was found under a name is shipped to be built, whatever that name says."""
    home = home_of(found)
    module, _, name = home.rpartition(".")
    if not re.match(rf"({_HOMES.pattern})(\.|$)", module) or name.startswith("_"):
        return False
    if isinstance(found, type):
        return any(f"{base.__module__}.{base.__qualname__}" in _KINDS for base in found.__mro__)
    if module in _FUNCTIONS:
        return True
    return module in _SOURCES and inspect.signature(found).return_annotation in ("Source", "besom.data.dataset.Source")


def home_of(found: Any) -> str:
    """Return where something is defined, with its own name; empty for what is no class and no function."""
    found = inspect.unwrap(found) if callable(found) else found
    found = getattr(found, "__func__", found)
    if isinstance(found, type) or inspect.isroutine(found):
        module = getattr(found, "__module__", None) or getattr(getattr(found, "__self__", None), "__name__", "builtins")
        return f"{module}.{found.__qualname__}"
    return ""
