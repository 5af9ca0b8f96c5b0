"""The texts of `besom --help` and `besom sweep --help`, and the argument parser of the other commands."""

from __future__ import annotations

import argparse
from typing import NoReturn

from besom.errors import ConfigError

OVERVIEW = """\
usage: besom COMMAND …

Hyperparameter sweeps that never idle: Hydra composes each trial's config, Optuna chooses it,
PyTorch Lightning trains it on the next free device, MLflow remembers every run.

  besom train        train one model and record it         besom train model=logistic_regression
  besom sweep        search for the best config            besom sweep digits
  besom studies      list the studies and their best       besom studies
  besom report       who won, what mattered: a page        besom report digits
  besom best         print a study's best config, to keep  besom best digits
  besom reproduce    train a recorded run again, compare   besom reproduce RUN_ID
  besom predict      ask a recorded model about new data   besom predict RUN_ID new.csv
  besom register     put a model into MLflow's registry    besom register RUN_ID digits
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
  besom sweep digits --dry-run                              show the space and three configs, and what looks wrong
  besom sweep digits --enqueue-from second                  try the best of another study first
  besom sweep digits --quiet                                show only what it came to; -q for short
  besom sweep digits --help                                 what is in the file
  besom sweep digits --cfg job                              the config that the trials start from

The study is kept in mlruns/optuna.db, every trial is an MLflow run: besom studies and besom ui show them. What
happened when is in mlruns/logs/STUDY/sweep.log.
What a config may hold: besom train --help. Your own sweep: copy a shipped file into sweeps/.

sweeps: {names}
"""

ONE_SWEEP_HELP = """\
usage: besom sweep {name} [OVERRIDE …] [HYDRA FLAG …]

{path}:

{text}
  besom sweep {name}                                  run it, or go on where it was stopped
  besom sweep {name} hydra.sweeper.n_trials=100       more trials
  besom sweep {name} --dry-run                        what would be tried, and what looks wrong
  besom sweep {name} --cfg job                        the config that the trials start from

More: besom sweep --help. What a config may hold: besom train --help.
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's message."""
        raise ConfigError(f"{self.prog.removeprefix('besom ')}: {message}; see {self.prog} --help")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust` to a command that rebuilds recorded models."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="build what lies in this package of yours, as well as what is shipped: a recorded config is code; may be "
        "given several times",
    )
