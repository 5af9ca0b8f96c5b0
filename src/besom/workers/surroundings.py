"""The process-wide state that a trial may change, put back when it is over: settings, loggers, active runs, seeds.

Of a library, only what is imported already is read. What a module sets while it is imported stays: Python runs it only
once in a process.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from besom.workers.leftovers import Leftovers

_State = dict[tuple[str, str], Any]
_ABSENT = object()


class Surroundings:
    """The state of this process from now on; `put_back` restores it after a trial."""

    def __init__(self) -> None:
        self._leftovers = Leftovers()
        self._output = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        self._state = _read()
        self._importing = False
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder(self))

    def put_back(self, *, failed: bool) -> str | None:
        """End what a trial left active and put back what it changed; return what only a new process is without.

        `failed` is true if the trial failed; it may have broken the CUDA context.
        """
        try:
            _end_runs(failed=failed)
            self._restore()
            _seed_anew()
            return self._leftovers.describe(failed=failed)
        except Exception as error:  # of a user's object, or a library's
            return f"a state that cannot be put back ({type(error).__name__}: {error})"

    def _restore(self) -> None:
        now = _read()
        for kind, name in now.keys() | self._state.keys():
            before = self._state.get((kind, name), _ABSENT)
            if now.get((kind, name), _ABSENT) != before:
                _KINDS[kind].write(name, before)
        signal.setitimer(signal.ITIMER_REAL, 0)  # else an alarm ends the next trial
        sys.stdout.flush()
        for descriptor, copy in self._output.items():
            if not os.path.sameopenfile(descriptor, copy):
                os.dup2(copy, descriptor)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Take what changes within a `with` block as the state to put back; no-op within another such block."""
        if self._importing:
            yield
            return
        self._importing, before = True, _read()
        try:
            with self._leftovers.importing():
                yield
        finally:
            self._importing = False
            _learn(self._state, before, _read())


def _read() -> _State:
    return {(kind, name): value for kind, part in _KINDS.items() for name, value in part.read().items()}


def _learn(state: _State, before: _State, after: _State) -> None:
    """Apply the changes between two states to a third one; of a list, only what was added."""
    for key in after.keys() | before.keys():
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            first = next((index for index, item in enumerate(new) if item in old), 0)
            added = [item for item in new[first:] if item not in old]
            state[key] = [*new[:first], *state[key], *added]
        elif new is _ABSENT:
            state.pop(key, None)
        else:
            state[key] = new


class _Finder:
    """Finds modules as Python does, and makes their loaders note what they set."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a module's spec."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._surroundings)
        return spec

    def invalidate_caches(self) -> None:
        """Do nothing: the path finder is asked as well."""


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, surroundings: Surroundings) -> None:
        super().__init__(name, path)
        self._surroundings = surroundings

    def exec_module(self, module: ModuleType) -> None:
        with self._surroundings.importing():
            super().exec_module(module)


@dataclass(frozen=True)
class _Kind:
    """A kind of state: its values by name, and how one of them is set; `_ABSENT` if there was none."""

    read: Callable[[], Mapping[str, Any]]
    write: Callable[[str, Any], None]


@dataclass(frozen=True)
class _Setting:
    """A value of a module, which may not be imported yet."""

    module: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]


def _attribute(module: str, name: str) -> _Setting:
    return _Setting(module, lambda it: getattr(it, name), lambda it, value: setattr(it, name, value))


def _call(module: str, reader: str, writer: str) -> _Setting:
    return _Setting(module, lambda it: getattr(it, reader)(), lambda it, value: getattr(it, writer)(value))


def _items(module: str, name: str) -> _Setting:
    """Return the setting for a list, which others hold as well: its items are replaced."""

    def write(it: Any, value: list[Any]) -> None:
        getattr(it, name)[:] = value

    return _Setting(module, lambda it: list(getattr(it, name)), write)


def _write_filters(it: Any, filters: list[Any]) -> None:
    it.filters[:] = filters
    with it.catch_warnings():  # makes Python forget which warnings the former filters ignored
        pass


def _write_showwarning(it: Any, show: Any) -> None:
    logging.captureWarnings(False)
    it.showwarning = show


def _default_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # a mode, which would slow each call


_SETTINGS = {
    "working directory": _call("os", "getcwd", "chdir"),
    "sys.path": _items("sys", "path"),
    "sys.argv": _items("sys", "argv"),
    **{f"sys.{name}": _attribute("sys", name) for name in ("stdin", "stdout", "stderr", "excepthook", "displayhook")},
    "threading.excepthook": _attribute("threading", "excepthook"),
    "recursion limit": _call("sys", "getrecursionlimit", "setrecursionlimit"),
    "garbage collection": _Setting("gc", lambda it: it.isenabled(), lambda it, on: it.enable() if on else it.disable()),
    "socket timeout": _call("socket", "getdefaulttimeout", "setdefaulttimeout"),
    "warnings.filters": _Setting("warnings", lambda it: list(it.filters), _write_filters),
    "warnings.showwarning": _Setting("warnings", lambda it: it.showwarning, _write_showwarning),
    "logging.disable": _Setting("logging", lambda it: it.root.manager.disable, lambda it, level: it.disable(level)),
    "numpy.errstate": _Setting("numpy", lambda it: it.geterr(), lambda it, value: it.seterr(**value)),
    "hydra": _Setting(
        "hydra.core.global_hydra",
        lambda it: it.GlobalHydra.instance().hydra,
        lambda it, value: setattr(it.GlobalHydra.instance(), "hydra", value),
    ),
    "mlflow's store": _attribute("mlflow.tracking._tracking_service.utils", "_tracking_uri"),
    "mlflow's experiment": _attribute("mlflow.tracking.fluent", "_active_experiment_id"),
    "dtype": _call("torch", "get_default_dtype", "set_default_dtype"),
    "device": _Setting("torch", lambda it: it.get_default_device(), _default_device),
    "grad mode": _call("torch", "is_grad_enabled", "set_grad_enabled"),
    "anomaly mode": _Setting(
        "torch", lambda it: it.is_anomaly_enabled(), lambda it, on: it.autograd.set_detect_anomaly(on)
    ),
    "deterministic": _call("torch", "get_deterministic_debug_mode", "set_deterministic_debug_mode"),
    "matmul precision": _call("torch", "get_float32_matmul_precision", "set_float32_matmul_precision"),
    "threads": _call("torch", "get_num_threads", "set_num_threads"),
    **{
        f"cudnn.{name}": _attribute("torch.backends.cudnn", name)
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
}


def _read_settings() -> dict[str, Any]:
    values = {}
    for name, setting in _SETTINGS.items():
        module = sys.modules.get(setting.module)
        if module is not None:
            with suppress(AttributeError, ImportError, RuntimeError, OSError):  # half imported; a folder that is gone
                values[name] = setting.read(module)
    return values


def _write_setting(name: str, value: Any) -> None:
    if value is not _ABSENT:  # of a module that something else than Python's finder has imported
        _SETTINGS[name].write(sys.modules[_SETTINGS[name].module], value)


def _write_variable(name: str, value: Any) -> None:
    _put(os.environ, name, value)


def _resolvers() -> dict[str, Any]:
    container = getattr(sys.modules.get("omegaconf.basecontainer"), "BaseContainer", None)
    return getattr(container, "_resolvers", {})


def _write_resolver(name: str, resolver: Any) -> None:
    _put(_resolvers(), name, resolver)


def _put(values: Any, name: str, value: Any) -> None:
    if value is _ABSENT:
        values.pop(name, None)
    else:
        values[name] = value


def _read_signals() -> dict[str, Any]:
    return {str(int(number)): signal.getsignal(number) for number in signal.valid_signals()}


def _write_signal(number: str, handler: Any) -> None:
    if handler is not None:  # not set from Python
        signal.signal(int(number), handler)


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict.items()
    return {"": logging.root, **{name: found for name, found in known if isinstance(found, logging.Logger)}}


def _read_loggers() -> dict[str, Any]:
    return {
        name: (logger.level, logger.propagate, logger.disabled, tuple(logger.handlers), tuple(logger.filters))
        for name, logger in list(_loggers().items())
    }


def _write_logger(name: str, value: Any) -> None:
    logger = _loggers()[name]
    level, propagate, disabled, handlers, filters = (logging.NOTSET, True, False, (), ()) if value is _ABSENT else value
    for handler in [handler for handler in logger.handlers if handler not in handlers]:
        handler.close()
    logger.setLevel(level)
    logger.propagate, logger.disabled = propagate, disabled
    logger.handlers[:], logger.filters[:] = handlers, filters


_KINDS = {
    "variable": _Kind(lambda: dict(os.environ), _write_variable),
    "resolver": _Kind(lambda: dict(_resolvers()), _write_resolver),
    "signal": _Kind(_read_signals, _write_signal),
    "logger": _Kind(_read_loggers, _write_logger),
    "setting": _Kind(_read_settings, _write_setting),
}


def _end_runs(*, failed: bool) -> None:
    """End the runs that a trial left active, and close its figures, as the end of its process would."""
    fluent, wandb, pyplot = map(sys.modules.get, ("mlflow.tracking.fluent", "wandb", "matplotlib.pyplot"))
    while fluent is not None and fluent.active_run() is not None:
        fluent.end_run("FAILED" if failed else "FINISHED")
    if getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=int(failed))  # type: ignore[union-attr]
    if pyplot is not None:
        pyplot.close("all")


def _seed_anew() -> None:
    """Give the global generators the seeds of a new process: random ones, but for torch."""
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        first = torch.Generator("cpu").initial_seed()
        torch.default_generator.manual_seed(first)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(first)
