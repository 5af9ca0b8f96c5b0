"""The command line: `besom train | sweep | studies | report | best | reproduce | predict | register | ui`.

`train` and `sweep` hand their arguments to Hydra, so every Hydra override and flag works. What the user can
mend ends in one line and exit code 2; a traceback is shown for Besom's own mistakes, or with HYDRA_FULL_ERROR=1.

Each command imports what it needs by itself: help and tab completion answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from besom.cli import run_commands
from besom.cli.completion import COMMANDS, answer
from besom.cli.help import ONE_SWEEP_HELP, OVERVIEW, SWEEP_HELP, add_trust
from besom.cli.help import Parser as _Parser
from besom.config.paths import conf_dir, find_sweep, sweep_names, sweep_search_path
from besom.errors import ConfigError, Interrupted, RunNotFound, TrainingCrashed, one_of
from besom.system.output import open_what_is_closed, silence, whoever_reads
from besom.version import __version__

CRASHED, USAGE, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `besom` and return its exit code."""
    if argv is None:  # the console script, unlike `python -m` and so the workers, does not find a module beside it
        sys.path.append(str(Path.cwd()))
        _collect_garbage_rarely()
        open_what_is_closed()
    try:
        try:
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        except SystemExit as stopped:  # argparse and Hydra, after --help and the like
            code = USAGE if stopped.code else 0
        sys.stdout.flush()
        return code
    except Interrupted:  # it has told of it itself
        return INTERRUPTED
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:  # `besom train --cfg job | head`: whoever read has seen enough
        silence(sys.stdout)
        return 0
    except TrainingCrashed as error:
        sys.stderr.write(f"{error.traceback}besom: {error}\n")
        return CRASHED
    except Exception as error:
        from besom.config.messages import explain

        if isinstance(error.__context__, KeyboardInterrupt):  # which Hydra takes for a mistake of the config
            return _stopped()
        line = explain(error)
        if line is None:
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        if isinstance(error, OSError):  # perhaps it is what was to be printed, and Python would try again at the end
            silence(sys.stdout)
        sys.stderr.write(f"besom: {line}\n")
        return USAGE


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
        "studies": studies,
        "report": report,
        "best": best,
        "reproduce": reproduce,
        "predict": run_commands.predict,
        "register": run_commands.register,
        "ui": ui,
    }
    if command not in commands:
        raise ConfigError(f"'{command}' is not a command; {one_of(command, COMMANDS)}; see besom --help")
    return commands[command](rest)


def train(arguments: list[str]) -> int:
    """`besom train`: compose conf/train.yaml with the arguments and train it."""
    from besom.cli import hydra_main

    words = hydra_main.Words.read(arguments)
    with nullcontext() if words.only_shows else whoever_reads():  # what is shown is all there is to do
        hydra_main.run([*words.folders, conf_dir()], "train", [*words.overrides, *words.flags])
    return 0


def sweep(arguments: list[str]) -> int:
    """`besom sweep NAME`: the same app in multirun mode, its primary config a sweep file."""
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
    with nullcontext() if words.only_shows else whoever_reads():
        hydra_main.run(sweep_search_path(file, words.folders), file.stem, [*overrides, *sweep_flags.overrides, *flags])
    return 0


def studies(arguments: list[str]) -> int:
    """`besom studies`."""
    parser = _Parser(
        prog="besom studies",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="List the studies under mlruns/ here, the latest first: which ones run, how far they are, their\n"
        "best. An interrupted one goes on with the command that began it.",
        epilog="examples:\n"
        "  besom studies\n"
        "  besom studies --json                                  for programs\n"
        "  besom studies --directory ../other/mlruns\n"
        "  besom studies --storage sqlite:///mlruns/optuna.db\n",
    )
    _add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args(arguments)
    import json
    from datetime import datetime

    from besom.studies.cards import list_studies, opened, table
    from besom.system.console import plain_console

    with opened(options.storage, options.directory) as storage:
        found = list_studies(storage, options.directory)
    if options.json:
        sys.stdout.write(json.dumps([card.plain() for card in found], indent=2) + "\n")
        return 0
    if not found:
        raise RunNotFound("there are no studies yet; start one with besom sweep digits")
    plain_console().print(table(found, now=datetime.now().astimezone()))
    return 0


def report(arguments: list[str]) -> int:
    """`besom report STUDY`."""
    parser = _Parser(
        prog="besom report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Show what a study came to, and write it as one HTML file that needs no network: who won and by\n"
        "what, every trial, what mattered, learning curves, devices, failures, and how to get each run again.\n"
        "A study that still runs is shown as far as it is.",
        epilog="examples:\n"
        "  besom report digits                                   mlruns/reports/digits.html\n"
        "  besom report digits -o digits.html --open             and open it in a browser\n"
        "  besom report digits --json                            for programs\n",
    )
    parser.add_argument("study", metavar="STUDY", help="a name that besom studies lists")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="where to write it (default: DIR/reports/STUDY.html)"
    )
    parser.add_argument("--open", action="store_true", help="open it in a browser")
    parser.add_argument("--json", action="store_true", help="print what it came to as JSON")
    _add_storage(parser)
    options = parser.parse_args(arguments)
    import json
    import webbrowser

    from besom.cli.study_report import read, write_page
    from besom.reports.text.terminal import plain, show
    from besom.system.console import plain_console
    from besom.tracking.store import Location

    location = Location.of({"uri": os.environ.get("MLFLOW_TRACKING_URI"), "directory": options.directory})
    found, path = read(options.study, storage=options.storage, directory=options.directory, location=location)
    path = options.output or path
    write_page(found, path)
    if options.json:
        sys.stdout.write(json.dumps({**plain(found), "report": str(path)}, indent=2) + "\n")
    else:
        show(found, plain_console())
        sys.stdout.write(f"{path}\n")
    if options.open:
        webbrowser.open(path.absolute().as_uri())
    return 0


def best(arguments: list[str]) -> int:
    """`besom best STUDY`."""
    parser = _Parser(
        prog="besom best",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print the config of a study's best trial as YAML for conf/experiment/, so that it is trained\n"
        "exactly by besom train experiment=NAME. Where there are finalists, it is their winner; of several\n"
        "objectives, the best in the first one; --trial takes any other. For a study of another Hydra app, the\n"
        "trial's overrides are printed.",
        epilog="examples:\n"
        "  besom best digits\n"
        "  besom best digits --save digits_best                  conf/experiment/digits_best.yaml\n"
        "  besom best digits --trial 7\n",
    )
    parser.add_argument("study", metavar="STUDY", help="a name that besom studies lists")
    parser.add_argument("--trial", type=int, metavar="N", help="this trial, not the best one")
    parser.add_argument(
        "--save", metavar="NAME", help="write conf/experiment/NAME.yaml here, or DIR/experiment/NAME.yaml"
    )
    parser.add_argument("--sweep", metavar="FILE", help="the sweep file, where it is not found by itself")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="your own configs, as for besom sweep")
    _add_storage(parser)
    options = parser.parse_args(arguments)
    from besom.studies.best import best_config, command_line, save, train_command
    from besom.studies.cards import find_study, opened

    with opened(options.storage, options.directory) as storage:
        card = find_study(storage, options.study, options.directory)
    folders = [options.config_dir] if options.config_dir else []
    found = best_config(card, options.trial, folders=folders, sweep=options.sweep)
    for note in found.notes:
        sys.stderr.write(f"besom: warning: {note}\n")
    if options.save:
        conf = options.config_dir or Path("conf")
        path = save(found, options.save, conf)
        command = train_command(options.save, found.extra, conf)
        sys.stdout.write(f"{found.told}\n{path} is written; train it: {command}\n")
    else:
        sys.stdout.write(found.text or f"{command_line(found.overrides)}\n")
    return 0


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", type=Path, default=Path("mlruns"), metavar="DIR", help="where it is kept (default: %(default)s)"
    )
    parser.add_argument("--storage", metavar="URL", help="an Optuna storage, where it is not DIR/optuna.db")


def reproduce(arguments: list[str]) -> int:
    """`besom reproduce RUN_ID`."""
    parser = _Parser(
        prog="besom reproduce",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a recorded run again from its config, in a fresh process, and compare every metric at\n"
        "every epoch: REPRODUCED if all are bit-exact, CLOSE if all are within the tolerance, else DIFFERS and exit\n"
        "code 1. It names what changed since: code, data, packages, device. The new run is recorded beside the old\n"
        "one, the verdict on both.",
        epilog="examples:\n"
        "  besom reproduce 4ba3b408759b42e99d4b0cad8ea04da9\n"
        "  besom reproduce RUN_ID --tolerance 0                                 only bit-exact will do\n"
        "  besom reproduce RUN_ID --exact                                       in the code and packages of then\n"
        '  besom reproduce RUN_ID --exact --pip-args "--extra-index-url URL"\n'
        "  besom reproduce RUN_ID --trust net                                   a model of your own, in package net\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom reproduce RUN_ID       a run on a server\n",
    )
    parser.add_argument(
        "run_id", metavar="RUN_ID", help="the id that `besom train` and `besom sweep` print last, or `besom ui` shows"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--here", action="store_true", help="with the code and the packages that are here; the default")
    where.add_argument(
        "--exact", action="store_true", help="with the recorded commit, its changes, and the recorded packages"
    )
    parser.add_argument(
        "--tolerance", type=_share, metavar="T", help="what is CLOSE, as a share of the recorded value (default: 0.01)"
    )
    parser.add_argument("--pip-args", metavar="ARGS", help="more for pip, where --exact has to install packages")
    add_trust(parser)
    options = parser.parse_args(arguments)
    if options.pip_args is not None and not options.exact:
        parser.error("--pip-args goes with --exact")
    from besom.config.trust import Trust
    from besom.system.console import plain_console
    from besom.tracking.store import Location

    location, console, trust = Location.default(), plain_console(), Trust.given(options.trust)
    if options.exact:
        from besom.reproduce.rerun_exact import reproduce_exactly

        pip_args = shlex.split(options.pip_args or "")
        return reproduce_exactly(
            options.run_id, location, console, tolerance=options.tolerance, trust=trust, pip_args=pip_args
        )
    from besom.reproduce.comparison import TOLERANCE, Verdict
    from besom.reproduce.rerun import reproduce as again

    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    verdict = again(options.run_id, location, console, tolerance=tolerance, trust=trust)
    return CRASHED if verdict is Verdict.DIFFERS else 0


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a tolerance; choose 0 or more, such as 0.01")
    return value


def ui(arguments: list[str]) -> int:
    """`besom ui`."""
    parser = _Parser(
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
    """Save the seconds for which the collector looks through all that is imported, time and again, and finds nothing.

    A quarter of what MLflow takes to import, and 1.4 s at the end, when the interpreter collects before it goes.
    """
    gc.set_threshold(50_000, 20, 20)
    atexit.register(_end_without_collecting)


def _end_without_collecting() -> None:
    # Triton, which comes with torch, would miss what was not collected, and list all of it on stderr.
    if "torch" not in sys.modules:
        gc.freeze()
