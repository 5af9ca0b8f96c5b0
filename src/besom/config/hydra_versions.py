"""The differences between the supported versions of Hydra: 1.3, and 1.4, which warns of what 1.5 will refuse."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate

_OLD = hydra.__version__.startswith("1.3.")

VERSION_BASE: Mapping[str, Any] = {"version_base": "1.3"} if _OLD else {}
"""The keyword of `hydra.main` and `initialize_config_dir` that 1.3 needs, and 1.4 warns about."""

# `besom.config.targets.check` decides what may be built; 1.4 warns if nothing does.
_ANY = "UNSAFE_DISABLE_EXECUTION_CHECKS"
_UNCHECKED: Mapping[str, Any] = {} if _OLD else {"_execution_whitelist_": getattr(hydra.utils, _ANY)}
_REPLACE: Mapping[str, Any] = {} if _OLD else {"replace": True}


def build(node: Any, **more: Any) -> Any:
    """Instantiate the `_target_` of a config node, with inner nodes as plain containers.

    Raises what Hydra does.
    """
    return instantiate(node, _convert_="all", **_UNCHECKED, **more)


def store(group: str, name: str, node: Any) -> None:
    """Register a config with Hydra, also if it is registered already."""
    ConfigStore.instance().store(group=group, name=name, node=node, provider="besom", **_REPLACE)


def is_hydras_main(frame: FrameType) -> bool:
    """Return whether a frame is Hydra's main function, which prints an error over several lines and exits with 1."""
    return frame.f_code.co_name == "run_and_report" and frame.f_globals.get("__name__", "").startswith("hydra.")
