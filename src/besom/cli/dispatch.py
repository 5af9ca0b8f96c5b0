"""The command line: runs a command, and turns errors into messages and exit codes.

A user's mistake ends in one line and exit code 2; a traceback is shown for errors of Besom itself, or with
HYDRA_FULL_ERROR=1.

Each command imports its own modules when it runs, so that help and tab completion are fast.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from besom.cli.completion import answer
from besom.cli.groups import COMMANDS, overview
from besom.errors import ConfigError, Interrupted, TrainingCrashed, one_of
from besom.system.output import open_closed_streams, silence
from besom.version import __version__

_CRASHED, _USAGE, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `besom` and return its exit code."""
    if (
        argv is None
    ):  # unlike `python -m`, and so the workers, the console script does not import from the current folder
        sys.path.append(str(Path.cwd()))
        _collect_garbage_rarely()
        open_closed_streams()
    try:
        try:
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        except SystemExit as stopped:  # argparse and Hydra exit after --help and the like
            code = _USAGE if stopped.code else 0
        sys.stdout.flush()
        return code
    except Interrupted:  # the sweep has printed a message itself
        return INTERRUPTED
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:  # `besom train --cfg job | head`: the reader has closed the pipe
        silence(sys.stdout)
        return 0
    except TrainingCrashed as error:
        sys.stderr.write(f"{error.traceback}besom: {error}\n")
        return _CRASHED
    except Exception as error:
        from besom.config.messages import explain

        if isinstance(error.__context__, KeyboardInterrupt):  # Hydra reports it as an error in the config
            return _stopped()
        line = explain(error)
        if line is None:
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        if isinstance(error, OSError):  # stdout itself may have failed, and Python would flush it again at exit
            silence(sys.stdout)
        sys.stderr.write(f"besom: {line}\n")
        return _USAGE


def _stopped() -> int:
    sys.stderr.write("besom: stopped\n")
    return INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if command == "--version":
        sys.stdout.write(f"besom {__version__}\n")
        return 0
    if command in ("-sc", "--shell-completion"):
        return answer(arguments)
    if command not in COMMANDS:
        raise ConfigError(f"'{command}' is not a command; {one_of(command, tuple(COMMANDS))}; see besom --help")
    return COMMANDS[command].run(rest)


def _collect_garbage_rarely() -> None:
    """Make garbage collections rare: they scan all imported modules again and again, and find nothing.

    They take a quarter of MLflow's import time, and 1.4 s at exit, when the interpreter collects once more.
    """
    gc.set_threshold(50_000, 20, 20)
    atexit.register(_end_without_collecting)


def _end_without_collecting() -> None:
    # Triton, which comes with torch, reports objects that were not collected on stderr.
    if "torch" not in sys.modules:
        gc.freeze()
