"""The command line: `besom train | sweep | reproduce | ui`.

`train` and `sweep` hand their arguments to Hydra, so every Hydra override and flag works. What the user can
mend ends in one line and exit code 2; a traceback is shown for Besom's own mistakes, or with HYDRA_FULL_ERROR=1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import besom
from besom.completion import adapt_completion
from besom.config import register_schemas
from besom.errors import BesomError, ConfigError
from besom.paths import conf_dir, search_path, sweeps_dir
from besom.single import TrainingCrashed, run_single
from besom.sweep.compose import one_line
from besom.sweep.loop import Interrupted
from besom.tracking.store import Location

CRASHED, USAGE, INTERRUPTED = 1, 2, 130

OVERVIEW = """\
usage: besom COMMAND …

Hyperparameter sweeps that never idle: Hydra composes each trial's config, Optuna chooses it,
PyTorch Lightning trains it on the next free device, MLflow remembers every run.

  besom train        train one model and record it         besom train model=logistic_regression
  besom sweep        search for the best config            besom sweep digits
  besom reproduce    train a recorded run again, compare   besom reproduce RUN_ID
  besom ui           browse and compare what is recorded   besom ui

Each command has its own --help. Everything is recorded under mlruns/ in the current folder,
or where MLFLOW_TRACKING_URI points. Tab completion: eval "$(besom -sc install=bash)"
"""

SWEEP_HELP = """\
usage: besom sweep NAME [OVERRIDE …] [HYDRA FLAG …]

Runs the sweep file NAME: sweeps/NAME.yaml here, in --config-dir, or one that ships with Besom. A path works too.
ctrl-C stops it; the same command goes on from there, and adds nothing when the sweep is complete.

  besom sweep digits                                        as it is written
  besom sweep digits hydra.sweeper.n_trials=100             more trials
  besom sweep digits trainer.max_epochs=5                   the same for every trial
  besom sweep digits 'model.width=choice(32,64)'            another range: choice, range, interval, tag(log, …)
  besom sweep digits --cfg job                              the config that the trials start from

shipped sweeps: {names}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `besom` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    full_errors = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra prints errors over many lines and exits with 1: let them through
    try:
        return _dispatch(arguments)
    except (Interrupted, KeyboardInterrupt):
        return INTERRUPTED
    except TrainingCrashed as error:
        sys.stderr.write(f"{error.traceback}besom: {error}\n")
        return CRASHED
    except (BesomError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if full_errors:
            raise
        sys.stderr.write(f"besom: {_message(error)}\n")
        return USAGE


def _dispatch(arguments: list[str]) -> int:
    arguments = adapt_completion(arguments)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        sys.stdout.write(OVERVIEW)
        return 0
    if command == "--complete":
        sys.stdout.write(" ".join(rest) + "\n")
        return 0
    if command == "--version":
        sys.stdout.write(f"besom {besom.__version__}\n")
        return 0
    commands = {"train": train, "sweep": sweep, "reproduce": reproduce, "ui": ui}
    if command not in commands:
        raise ConfigError(f"'{command}' is not a command; use one of {', '.join(commands)}, or besom --help")
    return commands[command](rest)


def train(arguments: list[str]) -> int:
    """`besom train`: compose conf/train.yaml with the arguments and train it."""
    user, rest = _config_dirs(arguments)
    _hydra([*user, conf_dir()], "train", rest)
    return 0


def sweep(arguments: list[str]) -> int:
    """`besom sweep NAME`: the same app in multirun mode, its primary config a sweep file."""
    user, rest = _config_dirs(arguments)
    if not rest or rest[0] in ("-h", "--help"):
        names = ", ".join(sorted(path.stem for path in sweeps_dir().glob("*.yaml")))
        sys.stdout.write(SWEEP_HELP.format(names=names))
        return 0
    file = _find_sweep(rest[0], user)
    shows = any(flag in rest for flag in ("--cfg", "-c", "--info", "-i", "--help", "-h", "-sc", "--shell-completion"))
    _hydra([file.parent, *user, conf_dir()], file.stem, rest[1:] if shows else [*rest[1:], "--multirun"])
    return 0


def reproduce(arguments: list[str]) -> int:
    """`besom reproduce RUN_ID`."""
    parser = argparse.ArgumentParser(
        prog="besom reproduce",
        description="Train a recorded run again from its config, in a fresh process, and compare every metric at every "
        "epoch. Says REPRODUCED if all are bit-exact, else DIFFERS with a table and exit code 1.",
    )
    parser.add_argument("run_id", metavar="RUN_ID", help="the id that `besom train` and `besom sweep` print last")
    options = parser.parse_args(arguments)
    from besom.reproduce import reproduce as again

    return 0 if again(options.run_id, Location.default(), Console()) else 1


def ui(arguments: list[str]) -> int:
    """`besom ui`."""
    parser = argparse.ArgumentParser(
        prog="besom ui",
        description="Open the MLflow UI on what is recorded and print a link to the latest study's runs, best first. "
        "ctrl-C ends it.",
    )
    parser.add_argument("--port", type=int, default=5000, help="the port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to bind to (default: %(default)s, this machine only)"
    )
    options = parser.parse_args(arguments)
    from besom.tracking.server import serve

    return serve(Location.default(), host=options.host, port=options.port, console=Console())


def train_task(config: DictConfig) -> None:
    """The Hydra task function of `besom train`: one run."""
    try:
        run = run_single(
            config,
            name=_run_name(),
            tags=_overrides(),
            location=Location.of(config.tracking),
            console=Console(),
        )
    except (BesomError, Interrupted, TrainingCrashed) as error:
        raise _Ended(error) from error
    finished = run.finished
    assert finished is not None
    parts = [f"best {config.objective} {finished.value:.4f} at epoch {finished.best_epoch}"]
    parts += [f"{name} {value:.4f}" for name, value in finished.summary.items()]
    sys.stdout.write("   ".join(parts) + f"   ({finished.duration_s:.1f} s)\n")
    sys.stdout.write(f"run {run.run_id or 'none (tracking=none)'}\n")


train_task.trains_besom_config = True  # type: ignore[attr-defined]  # what hydra/sweeper=besom looks for


@dataclass
class _Ended(BaseException):  # not an Exception: Hydra would print over it
    error: Exception


def _run_name() -> str:
    choices = HydraConfig.get().runtime.choices
    experiment = choices.get("experiment")
    return str(experiment) if experiment not in (None, "null") else f"{choices.get('data')}-{choices.get('model')}"


def _overrides() -> dict[str, str]:
    return {"besom.overrides": " ".join(HydraConfig.get().overrides.task)}


def _hydra(folders: Sequence[Path], config_name: str, arguments: Sequence[str]) -> None:
    """Run the Hydra app with these folders as its search path, first one first."""
    register_schemas()
    first, *others = dict.fromkeys(folder.resolve() for folder in folders)
    app: Callable[[], None] = hydra.main(version_base="1.3", config_path=str(first), config_name=config_name)(
        train_task
    )
    argv, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        with search_path(others):
            app()
    except _Ended as ended:
        raise ended.error from ended
    finally:
        sys.argv = argv


def _config_dirs(arguments: list[str]) -> tuple[list[Path], list[str]]:
    """Take `--config-dir` out: Hydra would search it last, and a user's own configs come first."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], type=Path)
    options, rest = parser.parse_known_args(arguments)
    for folder in options.config_dir:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir: {folder} is not a folder; name one that holds your configs")
    return options.config_dir, rest


def _find_sweep(name: str, user: Sequence[Path]) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name).absolute()
        raise ConfigError(f"sweep file {name} does not exist; name a file, or a sweep: besom sweep --help lists them")
    folders = [Path("sweeps"), *user, *(folder / "sweeps" for folder in user), sweeps_dir()]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder.absolute() / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(f"sweep '{name}' does not exist; use one of {', '.join(known)}, or a path to a .yaml file")


def _message(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}: line {mark.line + 1}, column {mark.column + 1}: {error.problem}; mend the YAML"
    return str(error) if isinstance(error, BesomError) else one_line(error)


if __name__ == "__main__":
    sys.exit(main())
