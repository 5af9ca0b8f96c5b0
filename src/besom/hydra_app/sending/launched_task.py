"""A task function whose jobs, run by another Hydra launcher, report the files they imported and their tracebacks.

A launcher returns only Hydra's JobReturn. So the list of files is a file in the job's output folder, as Hydra's own
files are, and the traceback, which an exception loses when it is pickled, is a note of the exception.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import traceback
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import TaskFunction
from omegaconf import DictConfig

from besom.hydra_app.sending.pickled import Pickled
from besom.system.source_file import SourceFile
from besom.workers.sources import SOURCES

_FILE = ".besom-sources.json"


class LaunchedTask:
    """A task function for another launcher: unpickled in another process, it records what that imports from then on.

    Run in this process, it does nothing more: its modules were imported before anything could be recorded.
    """

    def __init__(self, task_function: TaskFunction, *, elsewhere: bool = False) -> None:
        self._task_function = task_function
        self._elsewhere = elsewhere

    def __call__(self, config: DictConfig) -> Any:
        """Run the job."""
        try:
            return self._task_function(config)
        except Exception as error:
            if self._elsewhere:
                error.add_note(f"In the job's process:\n{traceback.format_exc()}")
            raise
        finally:
            if SOURCES.is_watching:
                _write(Path(HydraConfig.get().runtime.output_dir))

    def __getattr__(self, name: str) -> Any:
        # For callbacks that use attributes of the task function, such as its name.
        return getattr(self.__dict__["_task_function"], name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (Pickled.of(self._task_function),)


def _unpickle(pickled: Pickled) -> LaunchedTask:
    """Return the task function; importing its modules is recorded, unless this is the process that pickled it."""
    elsewhere = os.getpid() != pickled.process
    if elsewhere and not SOURCES.is_watching:
        SOURCES.watch()
        SOURCES.note_imported()  # what the launcher unpickled before, such as the config's classes
    (task_function,) = _after_running(pickled) if pickled.runs else pickled.load()
    return LaunchedTask(task_function, elsewhere=elsewhere)


@cache
def _after_running(pickled: Pickled) -> tuple[Any, ...]:
    """Load the task function of a script, which is run once in a process."""
    return pickled.load()


def _write(folder: Path) -> None:
    files = [
        {**asdict(file), "content": file.content and base64.b64encode(file.content).decode("ascii")}
        for file in SOURCES.take()
    ]
    (folder / _FILE).write_text(json.dumps(files), encoding="utf-8")


def take_sources(output_dir: str | None) -> tuple[SourceFile, ...] | None:
    """Read and remove the list that a job left in its output folder; None if there is none that can be read."""
    if output_dir is None:
        return None
    file = Path(output_dir) / _FILE
    try:
        files = json.loads(file.read_text(encoding="utf-8"))
        sources = tuple(
            SourceFile(**{**entry, "content": entry["content"] and base64.b64decode(entry["content"])})
            for entry in files
        )
        file.unlink()
    except (OSError, ValueError, TypeError, KeyError, binascii.Error):
        return None
    return sources
