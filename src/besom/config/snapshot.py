"""The config folders of a sweep as they were when it began: it composes each trial from them, whatever is edited then.

Their files are copied; what Hydra says of them still names the user's own.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from besom.system.locks import Held, locked

_MOST = 20_000
"""Entries that a folder of configs may have; one with more holds other things, and is left as it is."""

_FOLDERS = ("file", "besom")  # schemes of Hydra's own source of folders, and of ours

_PREFIX, _LOCK = "configs-", ".lock"

_EVERY_S = 2.0  # how often the user's files are looked at


@contextmanager
def snapshot(loader: ConfigLoader, folder: Path) -> Iterator[Snapshot]:
    """Let a loader read its folders as they are now for the time of a `with` block; `folder` takes copies."""
    _remove_left_behind(folder)
    place = folder / f"{_PREFIX}{uuid.uuid4().hex[:12]}"
    lock = place.with_suffix(_LOCK)
    with locked(lock, wait=True):
        place.mkdir()
        taken = Snapshot(place)
        before = loader.repository  # type: ignore[attr-defined]
        loader.repository = _Repository(loader.config_search_path, taken)  # type: ignore[attr-defined]
        try:
            yield taken
        finally:
            loader.repository = before  # type: ignore[attr-defined]
            shutil.rmtree(place, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_left_behind(folder: Path) -> None:
    """Remove the copies of processes that were killed: nobody holds their locks."""
    for lock in folder.glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(Held), locked(lock, wait=False):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


class Snapshot:
    """The copies of some folders, and which of their files were read."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._copies: dict[str, Path | None] = {}
        self._read: dict[tuple[str, str], tuple[Path, Path]] = {}
        self._told: set[Path] = set()
        self._looked_s = 0.0

    def __deepcopy__(self, _: Any) -> Snapshot:
        return self  # Hydra copies its sources for each config

    def frozen(self, source: ConfigSource) -> ConfigSource:
        """Return a source that reads the copy of a folder; any other as it is."""
        # By its scheme: Hydra imports the class of its plugin once more, so that it is none of ours.
        if source.scheme() not in _FOLDERS or not Path(source.path).is_dir():
            return source
        if source.path not in self._copies:
            place = self._place / str(len(self._copies))
            # What is recorded may lie among the configs, and these copies with it.
            self._copies[source.path] = _copied(Path(source.path), place, besides=self._place.parents[1])
        copy = self._copies[source.path]
        return source if copy is None else _Frozen(source, copy, self)

    def read(self, folder: str, copy: Path, name: str) -> None:
        """A file was read."""
        self._read[folder, name] = Path(folder, name), copy / name

    def changed(self) -> list[Path]:
        """Return the user's files that were read and are not any more as they were, each once; looks now and then."""
        if time.monotonic() - self._looked_s < _EVERY_S:
            return []
        self._looked_s = time.monotonic()
        pairs = [pair for pair in self._read.values() if pair[0] not in self._told]
        found = [file for file, copy in pairs if not _same(file, copy)]
        self._told.update(found)
        return found


class _Repository(ConfigRepository):
    """Hydra's, which makes its sources anew where a config names more folders."""

    def __init__(self, search_path: ConfigSearchPath, taken: Snapshot) -> None:
        self._taken = taken
        super().__init__(search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Make the sources, and freeze them."""
        super().initialize_sources(config_search_path)
        self.sources = [self._taken.frozen(source) for source in self.sources]


class _Frozen(ConfigSource):
    """A folder that is read from its copy; it goes by its own name."""

    def __init__(self, source: ConfigSource, copy: Path, taken: Snapshot) -> None:
        self.provider, self.path = source.provider, source.path
        self._inner = type(source)(source.provider, f"{source.scheme()}://{copy}")
        self._copy = copy
        self._taken = taken

    def scheme(self) -> str:  # type: ignore[override]
        """Return what a folder's URL begins with: that of its source."""
        return str(self._inner.scheme())

    def available(self) -> bool:
        """Whether it is there: it was."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a config as it was."""
        loaded = self._inner.load_config(config_path)
        loaded.path = self.full_path()
        self._taken.read(self.path, self._copy, self._normalize_file_name(config_path))
        return loaded

    def is_group(self, config_path: str) -> bool:
        """Whether it was a folder."""
        return self._inner.is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Whether it was a file."""
        return self._inner.is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What lay there."""
        return self._inner.list(config_path, results_filter)


def _copied(folder: Path, copy: Path, *, besides: Path) -> Path | None:
    """Copy the configs of a folder, with their times; None if there is too much else in it, `besides` apart."""
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
        there = copy / Path(place).relative_to(folder)
        there.mkdir(parents=True, exist_ok=True)
        for name in files:
            if name.endswith((".yaml", ".yml")) and (Path(place) / name).is_file():
                shutil.copy2(Path(place) / name, there / name)
    return copy


def _same(file: Path, copy: Path) -> bool:
    try:
        before, now = copy.stat(), file.stat()
        same_times = (before.st_mtime_ns, before.st_size) == (now.st_mtime_ns, now.st_size)
        return same_times or file.read_bytes() == copy.read_bytes()
    except OSError:  # it is gone
        return False
