"""An app as bytes for another process: pickled by value, or by the names of its script's objects.

By value, all processes run the app as it was when the sweep began, and run nothing else of its script. An object that
cannot be pickled, such as a lock among the globals of the task function, is there by name once the script has run.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import sys
import types
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from besom.errors import ConfigError, first_line
from besom.hydra_app.sending.main_script import MAIN, MainScript

_MOST_WRAPPERS = 20


class NotPicklable(ConfigError):
    """An app that cannot be sent to another process; its message names what cannot be pickled."""

    def __init__(self, variable: str) -> None:
        super().__init__(
            f"the task function cannot be sent to another process: {variable}; make it inside of the task function, "
            "or define it at the top level of a module"
        )


@dataclass(frozen=True, kw_only=True)
class Pickled:
    """Pickled objects of an app, and its main script, which is run before they are loaded if `runs` is true.

    `path` is the module search path of the process with this id, with the folder of the main script.
    """

    data: bytes
    script: MainScript | None
    runs: bool = False
    path: tuple[str, ...]
    process: int

    @classmethod
    def of(cls, task_function: Any, *parts: Any) -> Pickled:
        """Pickle a task function, and parts that belong to it. Raises NotPicklable."""
        script = MainScript.of(task_function)
        definitions = dict(script.definitions()) if script is not None else {}
        objects = (task_function, *parts)
        pickled = partial(
            cls,
            script=script,
            path=tuple(str(Path(entry or ".").absolute()) for entry in sys.path),
            process=os.getpid(),
        )
        try:
            return pickled(data=_dumps((objects, definitions)))
        except Exception as error:
            reason = first_line(error)
        runs = script is not None and script.source is not None
        try:
            return pickled(data=_dumps((objects, {}), _ByName, main=runs), runs=runs)
        except Exception:
            needed = {name: value for name, value in definitions.items() if is_picklable(value)}
        try:  # the task function may not need the others
            return pickled(data=_dumps((objects, needed)))
        except Exception as error:
            raise NotPicklable(_culprit(objects) or reason) from error

    def load(self) -> tuple[Any, ...]:
        """Return the task function and the parts; in another process, install the path and the main script first."""
        main = None
        if os.getpid() != self.process:
            sys.path[:] = [*self.path, *(entry for entry in sys.path if entry not in self.path)]
            main = self.script.install(run=self.runs) if self.script is not None else None
        objects: tuple[Any, ...]
        objects, definitions = pickle.loads(self.data)
        if main is not None:
            vars(main).update(definitions)
        return objects


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle's pickler; the main script's own objects must be pickled by value, for it is not run."""

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduction of an object, NotImplemented for the usual one."""
        if isinstance(obj, types.ModuleType) and type(obj) is not types.ModuleType:
            if sys.modules.get(obj.__name__) is obj:  # such as torch.backends.cudnn
                return import_module, (obj.__name__,)
        elif _is_stored_by_name(obj):
            raise pickle.PicklingError(f"cannot pickle {obj!r} without its script")
        return super().reducer_override(obj)


class _ByName(_ByValue):
    """A pickler that stores what a module defines by its name; with `main`, also the main script's global objects."""

    def __init__(self, file: io.BytesIO, *, main: bool) -> None:
        super().__init__(file)
        self._main = main
        self._globals = {id(value): name for name, value in vars(sys.modules[MAIN]).items()} if main else {}

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduction of an object, NotImplemented for the usual one."""
        place = self._place(obj)
        return super().reducer_override(obj) if place is None else (_named, place)

    def _place(self, obj: Any) -> tuple[str, str, int] | None:
        """Return the module, the name and the number of decorators around it; None where pickle does as well."""
        if id(obj) in self._globals:
            return MAIN, self._globals[id(obj)], 0
        if not callable(obj):
            return None
        module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
        if not (isinstance(module, str) and isinstance(name, str)) or (module == MAIN and not self._main):
            return None
        value: Any = sys.modules.get(module)
        for part in name.split("."):
            value = getattr(value, part, None)
        for wrappers in range(_MOST_WRAPPERS):
            if value is obj:
                return (module, name, wrappers) if wrappers or module == MAIN else None
            value = getattr(value, "__wrapped__", None)
        return None


def _named(module: str, name: str, wrappers: int) -> Any:
    """Return the object with this name in a module, without its outer decorators."""
    value: Any = import_module(module)
    try:
        for part in [*name.split("."), *["__wrapped__"] * wrappers]:
            value = getattr(value, part)
    except AttributeError as error:
        raise ConfigError(
            f"{name} cannot be sent to a worker, and is not there when its script is imported; define it at the top "
            "level, outside of `if __name__ == ...`"
        ) from error
    return value


def _is_stored_by_name(obj: Any) -> bool:
    """Return whether pickle would store an object of the main script by its name, such as an lru_cache."""
    if isinstance(obj, types.FunctionType | type) or getattr(obj, "__module__", None) != MAIN:
        return False
    try:
        return isinstance(obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL), str)
    except Exception:  # it cannot be pickled at all, which the pickler reports
        return False


def _dumps(value: Any, pickler: Any = _ByValue, **keys: Any) -> bytes:
    file = io.BytesIO()
    pickler(file, **keys).dump(value)
    return file.getvalue()


def is_picklable(value: Any) -> bool:
    """Return whether a value can be pickled by value."""
    try:
        _dumps(value)
    except Exception:  # any error, from any object
        return False
    return True


def _culprit(objects: tuple[Any, ...]) -> str:
    """Return the variable that prevents pickling and its type, empty if it is not found."""
    for obj in objects:
        if not is_picklable(obj) and (found := _variable(obj, seen=set())):
            name, value = found
            return f"{name}, a {type(value).__module__}.{type(value).__qualname__}, cannot be pickled"
    return ""


def _variable(obj: Any, seen: set[int]) -> tuple[str, Any] | None:
    """Return the innermost variable of a function, or attribute of an object, that cannot be pickled."""
    seen.add(id(obj))
    for name, value in _used_by(obj):
        if id(value) not in seen and not is_picklable(value):
            return _variable(value, seen) or (name, value)
    return None


def _used_by(obj: Any) -> list[tuple[str, Any]]:
    if isinstance(obj, types.MethodType):
        return [*_used_by(obj.__func__), ("self", obj.__self__)]
    if isinstance(obj, partial):
        given = [(f"argument {index}", value) for index, value in enumerate(obj.args)]
        return [("func", obj.func), *given, *obj.keywords.items()]
    if isinstance(obj, types.FunctionType):
        used = inspect.getclosurevars(obj)
        return [*used.nonlocals.items(), *used.globals.items()]
    if isinstance(obj, dict):
        return [(str(key), value) for key, value in obj.items()]
    if isinstance(obj, list | tuple):
        return [(f"item {index}", value) for index, value in enumerate(obj)]
    return list(vars(obj).items()) if hasattr(obj, "__dict__") else []
