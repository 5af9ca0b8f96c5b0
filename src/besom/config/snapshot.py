"""A snapshot of a sweep's config folders: all trials are composed from it, even if the files are edited meanwhile.

The files are copied; Hydra's messages still name the user's own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from besom.system.locks import own_folder

_MOST = 20_000
"""Largest number of entries of a config folder; a larger one contains other things, and is not copied."""

_FOLDERS = ("file", "besom")  # the schemes of Hydra's source of folders, and of Besom's

_PREFIX = "configs-"

THIS_SWEEP = "this sweep goes on with what it held when it began, and the next start takes it as it is then"
LAUNCHED_JOBS = "the jobs that are launched from now on read it as it is"
"""The consequences of a change on disk, as `snapshot` is used: trials are composed from the copies, or are not."""

_CHECK_EVERY_S = 2.0  # how often the user's files are checked


@contextmanager
def snapshot(loader: ConfigLoader, folder: Path, *, read_by: str = THIS_SWEEP) -> Iterator[Snapshot]:
    """Let a loader read its folders in their current state within a `with` block; `folder` takes the copies."""
    with own_folder(folder, _PREFIX) as place:
        copies = Snapshot(place, read_by)
        before = loader.repository  # type: ignore[attr-defined]
        loader.repository = _Repository(loader.config_search_path, copies)  # type: ignore[attr-defined]
        try:
            yield copies
        finally:
            loader.repository = before  # type: ignore[attr-defined]


class Snapshot:
    """The copies of some folders, and a record of the files that were read."""

    def __init__(self, place: Path, read_by: str) -> None:
        self._place = place
        self._read_by = read_by
        self._copies: dict[str, Path | None] = {}
        self._read: dict[tuple[str, str], tuple[Path, Path]] = {}
        self._reported: set[Path] = set()
        self._checked_s = 0.0

    def __deepcopy__(self, _: Any) -> Snapshot:
        return self  # Hydra copies its sources for each config

    def frozen(self, source: ConfigSource) -> ConfigSource:
        """Return a source that reads the copy of a folder; other sources unchanged."""
        # By its scheme: Hydra imports the plugin's class a second time, so that isinstance fails.
        if source.scheme() not in _FOLDERS or not Path(source.path).is_dir():
            return source
        if source.path not in self._copies:
            place = self._place / str(len(self._copies))
            # The tracking store may be located among the configs, and these copies with it.
            self._copies[source.path] = _copied(Path(source.path), place, besides=self._place.parents[1])
        copy = self._copies[source.path]
        return source if copy is None else _Frozen(source, copy, self)

    def read(self, folder: str, copy: Path, name: str) -> None:
        """Record that a file was read."""
        self._read[folder, name] = Path(folder, name), copy / name

    def changed(self) -> list[Path]:
        """Return the user's files that have changed since they were read, each once; checks every few seconds."""
        if time.monotonic() - self._checked_s < _CHECK_EVERY_S:
            return []
        self._checked_s = time.monotonic()
        pairs = [pair for pair in self._read.values() if pair[0] not in self._reported]
        changed_files = [file for file, copy in pairs if not _same(file, copy)]
        self._reported.update(changed_files)
        return changed_files

    def warnings(self) -> list[str]:
        """Return a warning for each file that `changed` returns."""
        return [f"{file} was changed on disk: {self._read_by}" for file in self.changed()]


class _Repository(ConfigRepository):
    """Hydra's repository, which recreates its sources when a config adds folders to the search path."""

    def __init__(self, search_path: ConfigSearchPath, copies: Snapshot) -> None:
        self._taken = copies
        super().__init__(search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Create the sources, and freeze them."""
        super().initialize_sources(config_search_path)
        self.sources = [self._taken.frozen(source) for source in self.sources]

    def __deepcopy__(self, _: Any) -> _Repository:
        """Return a repository with the same sources: Hydra copies it for each config, and all schemas with it."""
        same = object.__new__(_Repository)
        vars(same).update(vars(self))
        return same


class _Frozen(ConfigSource):
    """A source that reads a folder from its copy, under the folder's own name."""

    def __init__(self, source: ConfigSource, copy: Path, copies: Snapshot) -> None:
        self.provider, self.path = source.provider, source.path
        self._inner = type(source)(source.provider, f"{source.scheme()}://{copy}")
        self._copy = copy
        self._taken = copies

    def scheme(self) -> str:  # type: ignore[override]
        """Return the scheme of the inner source."""
        return str(self._inner.scheme())

    def available(self) -> bool:
        """Return True: the folder exists."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a config from the copy."""
        loaded = self._inner.load_config(config_path)
        loaded.path = self.full_path()
        self._taken.read(self.path, self._copy, self._normalize_file_name(config_path))
        return loaded

    def is_group(self, config_path: str) -> bool:
        """Return whether the path was a folder."""
        return self._inner.is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Return whether the path was a file."""
        return self._inner.is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what the folder contained."""
        return self._inner.list(config_path, results_filter)


def _copied(folder: Path, copy: Path, *, besides: Path) -> Path | None:
    """Copy the configs of a folder, with their times; None if it has too many entries, not counting `besides`."""
    besides = besides.resolve()
    left = _MOST
    for place, folders, files in os.walk(folder, followlinks=True):
        left -= len(folders) + len(files)
        if left < 0:
            shutil.rmtree(copy, ignore_errors=True)
            return None
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in ("__pycache__", "mlruns")
            and (Path(place) / name).resolve() != besides
        ]
        target = copy / Path(place).relative_to(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            if name.endswith((".yaml", ".yml")) and (Path(place) / name).is_file():
                shutil.copy2(Path(place) / name, target / name)
    return copy


def _same(file: Path, copy: Path) -> bool:
    try:
        before, now = copy.stat(), file.stat()
        same_times = (before.st_mtime_ns, before.st_size) == (now.st_mtime_ns, now.st_size)
        return same_times or file.read_bytes() == copy.read_bytes()
    except OSError:  # it is gone
        return False
