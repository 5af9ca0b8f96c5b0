"""The command line: `besom train | sweep | reproduce | ui`.

`train` and `sweep` hand their arguments to Hydra, so every Hydra override and flag works. What the user can
mend ends in one line and exit code 2; a traceback is shown for Besom's own mistakes, or with HYDRA_FULL_ERROR=1.

Each command imports what it needs by itself: help and tab completion answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import besom
from besom.completion import COMMANDS, answer
from besom.errors import ConfigError, Interrupted, TrainingCrashed, one_of
from besom.paths import conf_dir, find_sweep, sweep_names, sweep_search_path

CRASHED, USAGE, INTERRUPTED = 1, 2, 130

OVERVIEW = """\
usage: besom COMMAND …

Hyperparameter sweeps that never idle: Hydra composes each trial's config, Optuna chooses it,
PyTorch Lightning trains it on the next free device, MLflow remembers every run.

  besom train        train one model and record it         besom train model=logistic_regression
  besom sweep        search for the best config            besom sweep digits
  besom reproduce    train a recorded run again, compare   besom reproduce RUN_ID
  besom ui           browse and compare what is recorded   besom ui

New here? besom sweep digits takes about a minute and needs no download; then besom ui.

Each command has its own --help. Everything is recorded under mlruns/ in the current folder,
or where MLFLOW_TRACKING_URI points. Tab completion: eval "$(besom -sc install=bash)"
"""

SWEEP_HELP = """\
usage: besom sweep NAME [OVERRIDE …] [HYDRA FLAG …]

Search for the best config: runs the sweep file NAME, which says what to choose from, how often and by which
objective. NAME is a file in sweeps/ here, in a --config-dir, or one that ships with Besom; a path works too.
Trials train on every free device at once. ctrl-C stops it; the same command goes on from there, and adds
nothing when the sweep is complete.

  besom sweep digits                                        as it is written
  besom sweep digits hydra.sweeper.n_trials=100             more trials
  besom sweep digits trainer.max_epochs=5                   the same for every trial
  besom sweep digits 'model.width=choice(32,64)'            another range: choice, range, interval, tag(log, …)
  besom sweep digits hydra.sweeper.study_name=second        a study of its own beside the first
  besom sweep digits --help                                 what is in the file
  besom sweep digits --cfg job                              the config that the trials start from

The study is kept in mlruns/optuna.db and every trial is an MLflow run: besom ui shows them.
What a config may hold: besom train --help. Your own sweep: copy a shipped file into sweeps/.

sweeps: {names}
"""

ONE_SWEEP_HELP = """\
usage: besom sweep {name} [OVERRIDE …] [HYDRA FLAG …]

{path}:

{text}
  besom sweep {name}                                  run it, or go on where it was stopped
  besom sweep {name} hydra.sweeper.n_trials=100       more trials
  besom sweep {name} --cfg job                        the config that the trials start from

More: besom sweep --help. What a config may hold: besom train --help.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `besom` and return its exit code."""
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TrainingCrashed as error:
        sys.stderr.write(f"{error.traceback}besom: {error}\n")
        return CRASHED
    except Exception as error:
        from besom.explain import explain

        if isinstance(error.__context__, KeyboardInterrupt):  # which Hydra takes for a mistake of the config
            return _stopped()
        line = explain(error)
        if line is None:
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
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
        sys.stdout.write(f"besom {besom.__version__}\n")
        return 0
    if command in ("-sc", "--shell-completion"):
        return answer(arguments)
    commands = {"train": train, "sweep": sweep, "reproduce": reproduce, "ui": ui}
    if command not in commands:
        raise ConfigError(f"'{command}' is not a command; {one_of(command, COMMANDS)}; see besom --help")
    return commands[command](rest)


def train(arguments: list[str]) -> int:
    """`besom train`: compose conf/train.yaml with the arguments and train it."""
    from besom import app

    words = app.Words.read(arguments)
    app.run([*words.folders, conf_dir()], "train", [*words.overrides, *words.flags])
    return 0


def sweep(arguments: list[str]) -> int:
    """`besom sweep NAME`: the same app in multirun mode, its primary config a sweep file."""
    from besom import app

    words = app.Words.read(arguments)
    name = next((word for word in words.overrides if "=" not in word and word[0] != "~"), None)
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
        overrides, flags = app.without_ranges(overrides), words.flags
    else:
        flags = [*words.flags, "--multirun"]
    if not any(word.startswith("hydra/sweeper=") for word in overrides):
        overrides.append("hydra/sweeper=besom")
    app.run(sweep_search_path(file, words.folders), file.stem, [*overrides, *flags])
    return 0


def reproduce(arguments: list[str]) -> int:
    """`besom reproduce RUN_ID`."""
    parser = _Parser(
        prog="besom reproduce",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a recorded run again from its config, in a fresh process, and compare every metric at\n"
        "every epoch: REPRODUCED if all are bit-exact, else DIFFERS with a table and exit code 1. It warns about\n"
        "each difference in code, versions, device and data. The new run is recorded beside the old one.",
        epilog="examples:\n"
        "  besom reproduce 4ba3b408759b42e99d4b0cad8ea04da9\n"
        "  besom reproduce RUN_ID; echo $?                                      0: bit-exact, 1: it differs\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom reproduce RUN_ID       a run on a server\n",
    )
    parser.add_argument(
        "run_id", metavar="RUN_ID", help="the id that `besom train` and `besom sweep` print last, or `besom ui` shows"
    )
    options = parser.parse_args(arguments)
    from rich.console import Console

    from besom.reproduce import reproduce as again
    from besom.tracking.store import Location

    return 0 if again(options.run_id, Location.default(), Console()) else CRASHED


def ui(arguments: list[str]) -> int:
    """`besom ui`."""
    parser = _Parser(
        prog="besom ui",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Open the MLflow UI on what is recorded under mlruns/ here, or where MLFLOW_TRACKING_URI points,\n"
        "and print a link to the latest study's runs, best first. ctrl-C ends it.",
        epilog="examples:\n"
        "  besom ui\n"
        "  besom ui --port 5001\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom ui        the link into a server that runs already\n",
    )
    parser.add_argument("--port", type=_port, default=5000, help="the port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to bind to (default: %(default)s, this machine only)"
    )
    options = parser.parse_args(arguments)
    from rich.console import Console

    from besom.tracking.server import serve
    from besom.tracking.store import Location

    return serve(Location.default(), host=options.host, port=options.port, console=Console())


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; choose 1 to 65535")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are ours: one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('besom ')}: {message}; see {self.prog} --help")


if __name__ == "__main__":
    sys.exit(main())
