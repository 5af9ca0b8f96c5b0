"""The files that callbacks and loggers add to a run: which names are Besom's own, which paths stay in the folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

from besom.config.model_inputs import MODEL_FILES
from besom.errors import ConfigError

_FIGURES = ("confusion", "confusion_matrix", "learning_curves", "lr_find", "mistakes", "predictions", "weights")
_OWN = {*MODEL_FILES, "traceback.txt", "code", *(f"{name}.{kind}" for name in _FIGURES for kind in ("json", "svg"))}


def is_own_file(path: str) -> bool:
    """Return whether a path within a run's artifacts is that of a file of Besom's own, or lies in such a folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] in _OWN


def leads_out(path: str) -> bool:
    """Return whether a path leads out of the folder that it is relative to."""
    kinds = PurePosixPath(path), PureWindowsPath(path)
    return path.startswith("~") or any(kind.anchor or ".." in kind.parts for kind in kinds)


def check_artifacts(patterns: Iterable[object]) -> None:
    """Refuse patterns that lead out of a trial's folder. Raises ConfigError naming the pattern."""
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern or leads_out(pattern):
            raise ConfigError(f"artifacts: '{pattern}' is no pattern within the trial's folder; write such as csv/**")
