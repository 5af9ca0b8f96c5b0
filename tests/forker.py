"""The process that forks commands: it imports once what they import, and forks for each request.

A request names a command as it would be started: a Python with a module or a script, or a script; its arguments,
folder, environment and files. What is forked becomes that command: it has the same arguments, search path, environment,
signals and `__main__`, leads a session if it would, and ends as it would. One thing differs: most of what it imports is
there already. So what tells of imports, or of how an interpreter starts, is to be started afresh.
"""

from __future__ import annotations

import atexit
import builtins
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import CodeType
from typing import NoReturn

from besom.workers.fork_server_process import child_exits

LARGEST = 1 << 20  # bytes of a request: an environment, mostly

IMPORTED = {
    # What a parent imports in its life, but nothing of torch: that is for its workers.
    "parents": (
        "alembic.command",
        "besom.cli.hydra_main",
        "besom.cli.run_commands",
        "besom.cli.study_report",
        "besom.hydra_app.single_job",
        "besom.hydra_app.task",
        "besom.reports.text.terminal",
        "besom.reproduce.rerun_exact",
        "besom.sweep.dry_run",
        "besom.sweep.run",
        "besom.sweep.training_app",
        "besom.tracking.ui.server",
        "hydra._internal.core_plugins.basic_launcher",
        "hydra._internal.core_plugins.basic_sweeper",
        "hydra.main",
        "hydra_plugins.besom_sweeper.besom_sweeper",
        "jinja2",
        "mlflow.store.tracking.sqlalchemy_store",
        "optuna.importance",
        "optuna.samplers",
        "sklearn.ensemble",
        "sqlalchemy.dialects.sqlite",
        "uvicorn.protocols.http.auto",
    ),
    "fork_servers": ("besom.bundle.train", "besom.training.folds", "besom.workers.fork_server_process"),
    # Those that run the jobs of another app, which may import what it likes in its own time.
    "workers": ("besom.hydra_app.task", "besom.workers.worker", "hydra.main", "sklearn.linear_model"),
}


@dataclass(frozen=True)
class Request:
    """A command and what it runs as; `targets` are the numbers that its files have there."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    targets: list[int]
    session: bool


def main(kind: str, lifeline: int, listener: int) -> None:
    """Serve until whoever holds the other end of the lifeline is gone; in what was forked, be the command."""
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignored from the start in a shell's background
    given = [os.path.realpath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    path = [folder for folder in sys.path if os.path.realpath(folder) not in given]
    if lifeline in wait([lifeline, listener]):  # nobody has asked for anything
        os._exit(0)
    gc.disable()
    for name in IMPORTED[kind]:
        importlib.import_module(name)
    gc.freeze()  # or the first collection in a command would write to all that was imported, and so copy it
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    if len(threads) - threads.count("jemalloc_bg_thd") > 1:  # PyArrow's allocator knows of forks
        raise SystemExit(f"something that was imported has started a thread ({threads}): nothing can be forked")
    request, files = serve(lifeline, socket.socket(fileno=listener))
    signal.signal(signal.SIGINT, interrupted)
    become(request, files, path)


def serve(lifeline: int, listener: socket.socket) -> tuple[Request, list[int]]:
    """Fork for each request, and tell whoever asked of the number and of the end; return there what it asked for."""
    running: dict[int, socket.socket] = {}
    with child_exits() as death:
        while True:
            ready = wait([lifeline, listener, death])
            if lifeline in ready:
                os._exit(0)
            if death in ready:
                os.read(death, 4096)
                bury(running)
            if listener in ready:
                asked, _ = listener.accept()
                told, files, _, _ = socket.recv_fds(asked, LARGEST, 32)
                if not told:  # whoever asked was killed
                    asked.close()
                    continue
                if (child := os.fork()) == 0:
                    return Request(**json.loads(told)), files
                running[child] = asked
                with suppress(OSError):  # as above
                    asked.send(str(child).encode())
                for file in files:
                    os.close(file)


def bury(running: dict[int, socket.socket]) -> None:
    """Tell of those that have ended."""
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with running.pop(child) as asked, suppress(OSError):
            asked.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: Request, files: Sequence[int], path: Sequence[str]) -> NoReturn:
    """Run a command in this process, as if it had been started."""
    if request.session:
        os.setsid()
    take(files, request.targets)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through="PYTHONUNBUFFERED" in request.environment)
    importlib.invalidate_caches()
    importlib.import_module("numpy").random.seed()
    code, module = prepare(request, path)
    gc.enable()
    run(code, module)


def take(files: Sequence[int], targets: Sequence[int]) -> None:
    """Give files the numbers that they are to have, and close all others."""
    beyond = max(*targets, *files) + 1
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, beyond) for file in files]
    for file, target in zip(moved, targets, strict=True):
        os.dup2(file, target)
    for descriptor in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        if descriptor not in targets:
            with suppress(OSError):  # that of the listing
                os.close(descriptor)


def prepare(request: Request, path: Sequence[str]) -> tuple[CodeType, types.ModuleType]:
    """Return what a command runs, and its `__main__`; its arguments and its search path are in place."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    named = request.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*(str(Path(folder).absolute()) for folder in named if folder), *path]
    program, *arguments = request.command
    match arguments if Path(program).samefile(sys.executable) else request.command:
        case ["-c", text, *rest]:
            sys.path.insert(0, "")
            sys.argv, code = ["-c", *rest], compile(text, "<string>", "exec")
        case ["-m", name, *rest] | ["-P", "-m", name, *rest]:
            if arguments[0] != "-P":
                sys.path.insert(0, request.folder)
            spec = importlib.util.find_spec(name)
            if spec.submodule_search_locations:
                spec = importlib.util.find_spec(f"{name}.__main__")
            module.__spec__ = spec
            module.__package__, module.__file__ = spec.parent, spec.origin
            sys.argv, code = [spec.origin, *rest], spec.loader.get_code(spec.name)
        case [script, *rest]:
            sys.path.insert(0, str(Path(script).resolve().parent))
            module.__file__ = str(Path(script).absolute())
            sys.argv, code = [script, *rest], compile(Path(script).read_bytes(), module.__file__, "exec")
    sys.modules["__main__"] = module
    sys.orig_argv = [sys.executable, *arguments] if program == sys.executable else [sys.executable, *request.command]
    return code, module


def run(code: CodeType, module: types.ModuleType) -> NoReturn:
    """Run it to the end of the process.

    The interpreter ends as always, but does not take its modules apart: that copies all that was imported.
    """
    status = 0
    try:
        exec(code, module.__dict__)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if not isinstance(ended.code, int | None):
            print(ended.code, file=sys.stderr)
    except BaseException as error:
        status = 1
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without this function
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            status = 120
            sys.stderr.write(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}\n")
    os._exit(status & 0xFF)
