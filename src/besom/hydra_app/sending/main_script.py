"""An app's main script: its name, its command line, and its definitions in other processes."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from besom.config.paths import installed_folders
from besom.workers.sources import SOURCES

MAIN = "__main__"
_ELSEWHERE = "__mp_main__"  # its name where it does not start anything, as in a child process of multiprocessing


@dataclass(frozen=True, kw_only=True)
class MainScript:
    """The main script as it was when the app started.

    `module` is its name under `python -m`. There is no `source` in an interactive session.
    """

    file: str | None
    source: bytes | None
    module: str | None

    @classmethod
    def of(cls, task_function: Callable[..., Any]) -> MainScript | None:
        """Return the main script of an app; None if that is an installed program which does not define the task."""
        main = sys.modules[MAIN]
        file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
        if is_installed(file) and getattr(unwrapped(task_function), "__module__", None) != MAIN:
            return None
        source = None
        if file is not None:
            file = str(Path(file).absolute())
            with suppress(OSError):
                source = Path(file).read_bytes()
        return cls(file=file, source=source, module=spec.name if spec is not None else None)

    @staticmethod
    def definitions() -> Mapping[str, Any]:
        """Return the classes and functions that the script defines, so that `_target_: __main__.Model` works."""
        return {
            name: value
            for name, value in vars(sys.modules[MAIN]).items()
            if isinstance(value, type | types.FunctionType) and value.__module__ == MAIN
        }

    def install(self, *, run: bool) -> types.ModuleType:
        """Replace `__main__` by a module of this script, which is run or empty. Child processes import its file.

        Run, its name is not `__main__`, as in a child process of multiprocessing. A script that starts the app
        anyway is stopped at that point.
        """
        main = types.ModuleType(_ELSEWHERE if run else MAIN)
        if self.file is not None:
            main.__file__ = self.file
            if self.source is not None:
                SOURCES.note(self.file, self.source)
        if self.module is not None:
            main.__package__ = self.module.rpartition(".")[0]
            main.__spec__ = find_spec(self.module)
        sys.modules[MAIN] = main
        if run:
            sys.modules[_ELSEWHERE] = main
            assert self.source is not None
            with _apps_not_starting(str(self.file)):
                exec(compile(self.source, str(self.file), "exec"), vars(main))
        return main


@contextmanager
def _apps_not_starting(file: str) -> Iterator[None]:
    """Let Hydra's main function print its version and exit, instead of starting an app."""
    before = sys.argv
    sys.argv = [file, "--version"]
    try:
        yield
    except SystemExit:
        pass
    finally:
        sys.argv = before


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """The command that started an app, with which a job starts further processes, such as the ranks of Lightning's ddp.

    A program and its Hydra flags; the module that it runs under `python -m` is the spec of `__main__`.
    """

    program: str
    flags: tuple[str, ...]

    @classmethod
    def of(cls, config: DictConfig) -> CommandLine:
        """Return the command of this process, with the flags of the config that Hydra has composed for it."""
        program = Path(sys.argv[0])
        flags = [] if config.hydra.job.config_name is None else ["--config-name", config.hydra.job.config_name]
        for source in config.hydra.runtime.config_sources:
            if source.provider == "main" and source.schema == "file":
                flags += ["--config-path", source.path]
            elif source.provider == "command-line":
                flags += ["--config-dir", source.path]
        return cls(program=str(program.absolute() if program.exists() else program), flags=tuple(flags))

    def install(self, overrides: Sequence[str]) -> None:
        """Let this process look as if the command had started it, for one job with these overrides."""
        sys.argv[:] = [self.program, *self.flags, *overrides]
        main = sys.modules[MAIN]
        if main.__spec__ is not None and main.__spec__.name.startswith("besom."):  # the worker's own module
            main.__spec__ = None


def unwrapped(task_function: Any) -> Any:
    """Return the function that a decorated, partial or bound one calls."""
    while True:
        if isinstance(task_function, functools.partial):
            task_function = task_function.func
        elif hasattr(task_function, "__wrapped__"):
            task_function = task_function.__wrapped__
        else:
            return task_function


def is_installed(file: str | None) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return file is not None and any(Path(file).resolve().is_relative_to(folder) for folder in installed_folders())


def app_name(job_name: str, task_function: Callable[..., Any]) -> str:
    """Return the name of an app: that of its job, unless Hydra named the job after a wrapper or `__main__.py`.

    Hydra takes the name of the module that defines the task function. A wrapper that has no name in its module, such as
    the object of hydra-zen's `zen(task).hydra_main()`, would give all apps one name: they have that of their script.
    """
    file = getattr(sys.modules[MAIN], "__file__", None)
    if file is None or is_installed(file):
        return job_name
    function, script = unwrapped(task_function), Path(file).absolute()
    module = getattr(function, "__module__", None) or MAIN
    if module == MAIN:
        named_after_file, is_wrapper = script.stem, False
    else:
        named_after_file = module.rpartition(".")[2]
        is_wrapper = not isinstance(function, types.FunctionType) or "<locals>" in function.__qualname__
    if job_name != named_after_file or not (is_wrapper or job_name == MAIN):
        return job_name
    return script.parent.name if script.stem == MAIN else script.stem
