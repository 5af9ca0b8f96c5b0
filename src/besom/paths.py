"""Where the shipped configs lie, and which folders Hydra looks into while `besom` runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_EXTRA: ContextVar[Sequence[Path]] = ContextVar("extra_search_path", default=())


def conf_dir() -> Path:
    """The shipped conf/: inside the installed package, or at the top of a checkout."""
    return _shipped("conf")


def sweeps_dir() -> Path:
    """The shipped sweeps/."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() and list(installed.glob("*.yaml")) else package.parents[1] / name


def extra_search_path() -> Sequence[Path]:
    """The folders that Hydra searches after the primary config's own."""
    return _EXTRA.get()


@contextmanager
def search_path(folders: Sequence[Path]) -> Iterator[None]:
    """Let Hydra search these folders too, for the time of a `with` block."""
    token = _EXTRA.set(tuple(folders))
    try:
        yield
    finally:
        _EXTRA.reset(token)
