"""The command line: `besom train | sweep | studies | report | best | reproduce | predict | register | ui`.

`train` and `sweep` pass their arguments to Hydra, so every Hydra override and flag works. A user's mistake ends in one
line and exit code 2; a traceback is shown for errors of Besom itself, or with HYDRA_FULL_ERROR=1.

Each command imports its own modules when it runs, so that help and tab completion are fast.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from besom.cli import run_commands, study_commands
from besom.cli.completion import COMMANDS, answer
from besom.cli.help import ONE_SWEEP_HELP, OVERVIEW, SWEEP_HELP, Parser
from besom.config.paths import conf_dir, find_sweep, sweep_names, sweep_search_path
from besom.errors import ConfigError, Interrupted, TrainingCrashed, one_of
from besom.system.output import lossy_output, open_closed_streams, silence
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
        sys.stdout.write(OVERVIEW)
        return 0
    if command == "--version":
        sys.stdout.write(f"besom {__version__}\n")
        return 0
    if command in ("-sc", "--shell-completion"):
        return answer(arguments)
    commands = {
        "train": train,
        "sweep": sweep,
        "studies": study_commands.list_all,
        "report": study_commands.report_study,
        "best": study_commands.best_trial,
        "reproduce": run_commands.reproduce,
        "predict": run_commands.predict,
        "register": run_commands.register,
        "ui": ui,
    }
    if command not in commands:
        raise ConfigError(f"'{command}' is not a command; {one_of(command, COMMANDS)}; see besom --help")
    return commands[command](rest)


def train(arguments: list[str]) -> int:
    """Run `besom train`: compose conf/train.yaml with the arguments, and train it."""
    from besom.cli import hydra_main

    words = hydra_main.Words.read(arguments)
    with nullcontext() if words.only_shows else lossy_output():  # with these flags, output is the only purpose
        hydra_main.run([*words.folders, conf_dir()], "train", [*words.overrides, *words.flags])
    return 0


def sweep(arguments: list[str]) -> int:
    """Run `besom sweep NAME`: the same app in multirun mode, with a sweep file as the primary config."""
    from besom.cli import hydra_main
    from besom.cli.sweep_flags import SweepFlags

    sweep_flags, arguments = SweepFlags.read(arguments)
    words = hydra_main.Words.read(arguments)
    sweep_flags.check(words)
    name = next((word for word in words.overrides if "=" not in word and word[:1] != "~"), None)
    if name is None:
        names = ", ".join(sweep_names(words.folders))
        if not words.options.help:
            raise ConfigError(f"sweep: name one of {names}, or a path to a .yaml file; see besom sweep --help")
        sys.stdout.write(SWEEP_HELP.format(names=names))
        return 0
    file = find_sweep(name, words.folders)
    if words.options.help:
        text = "".join(f"    {line}\n" for line in file.read_text(encoding="utf-8").splitlines())
        sys.stdout.write(ONE_SWEEP_HELP.format(name=name, path=file, text=text))
        return 0
    if words.options.run:
        raise ConfigError("--run: a sweep is many runs; leave it out, or use besom train")
    overrides = [word for word in words.overrides if word != name]
    if words.only_shows:
        overrides, flags = hydra_main.without_ranges(overrides), words.flags
    else:
        flags = [*words.flags, "--multirun"]
    if not any(word.startswith("hydra/sweeper=") for word in overrides):
        overrides.append("hydra/sweeper=besom")
    with nullcontext() if words.only_shows else lossy_output():
        hydra_main.run(sweep_search_path(file, words.folders), file.stem, [*overrides, *sweep_flags.overrides, *flags])
    return 0


def ui(arguments: list[str]) -> int:
    """Run `besom ui`."""
    parser = Parser(
        prog="besom ui",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Open the MLflow UI on what is recorded under mlruns/ here, or where MLFLOW_TRACKING_URI points,\n"
        "and print links to the latest study's dashboard and to its runs in a table, best first. ctrl-C ends it.",
        epilog="examples:\n"
        "  besom ui\n"
        "  besom ui --port 5001\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom ui        the link into a server that runs already\n",
    )
    parser.add_argument("--port", type=_port, default=5000, help="the port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to bind to (default: %(default)s, this machine only; on any other, whoever reaches it can "
        "read, write and delete what is recorded)",
    )
    options = parser.parse_args(arguments)
    from besom.system.console import plain_console
    from besom.tracking.store import Location
    from besom.tracking.ui.server import serve

    return serve(Location.default(), host=options.host, port=options.port, console=plain_console())


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; choose 1 to 65535")
    return int(text)


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
