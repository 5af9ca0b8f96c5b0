"""The commands that train: `besom train` and `besom sweep`. They pass their arguments to Hydra."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from besom.cli.command import Command, Group, complete
from besom.cli.flags import SweepFlags, Words, add_hydra_flags, add_sweep_flags, hydra_parser
from besom.cli.suggestions import sweeps
from besom.config.paths import conf_dir, find_sweep, sweep_names, sweep_search_path
from besom.errors import ConfigError
from besom.system.output import lossy_output

_SWEEP_HELP = """\
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

_ONE_SWEEP_HELP = """\
usage: besom sweep {name} [OVERRIDE …] [HYDRA FLAG …]

{path}:

{text}
  besom sweep {name}                                  run it, or go on where it was stopped
  besom sweep {name} hydra.sweeper.n_trials=100       more trials
  besom sweep {name} --dry-run                        what would be tried, and what looks wrong
  besom sweep {name} --cfg job                        the config that the trials start from

More: besom sweep --help. What a config may hold: besom train --help.
"""


def train(arguments: list[str]) -> int:
    """Run `besom train`: compose conf/train.yaml with the arguments, and train it."""
    from besom.cli import hydra_main

    words = Words.read(arguments)
    with nullcontext() if words.only_shows else lossy_output():  # with these flags, output is the only purpose
        hydra_main.run([*words.folders, conf_dir()], "train", [*words.overrides, *words.flags])
    return 0


def sweep(arguments: list[str]) -> int:
    """Run `besom sweep NAME`: the same app in multirun mode, with a sweep file as the primary config."""
    from besom.cli import hydra_main

    sweep_flags, arguments = SweepFlags.read(arguments)
    words = Words.read(arguments)
    sweep_flags.check(words)
    name = next((word for word in words.overrides if "=" not in word and word[:1] != "~"), None)
    if name is None:
        names = ", ".join(sweep_names(words.folders))
        if not words.options.help:
            raise ConfigError(f"sweep: name one of {names}, or a path to a .yaml file; see besom sweep --help")
        sys.stdout.write(_SWEEP_HELP.format(names=names))
        return 0
    file = find_sweep(name, words.folders)
    if words.options.help:
        text = "".join(f"    {line}\n" for line in file.read_text(encoding="utf-8").splitlines())
        sys.stdout.write(_ONE_SWEEP_HELP.format(name=name, path=file, text=text))
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


def _sweep_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    add_hydra_flags(parser)
    add_sweep_flags(parser)
    complete(parser.add_argument("sweep"), sweeps)
    parser.add_argument("overrides", nargs="*")
    return parser


GROUP = Group(
    title="train and search",
    commands=(
        Command("train", "train one model and record it", "train model=logistic_regression", hydra_parser, train),
        Command("sweep", "search for the best config", "sweep digits", _sweep_parser, sweep),
    ),
)
