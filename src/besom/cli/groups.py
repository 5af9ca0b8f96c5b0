"""All commands of `besom`, by group."""

from __future__ import annotations

from besom.cli import run_commands, study_commands, train_commands
from besom.cli.command import Group

GROUPS = (train_commands.GROUP, study_commands.GROUP, run_commands.GROUP)
COMMANDS = {command.name: command for group in GROUPS for command in group.commands}

_OVERVIEW = """\
usage: besom COMMAND …

Hyperparameter sweeps that never idle: Hydra composes each trial's config, Optuna chooses it,
PyTorch Lightning trains it on the next free device, MLflow remembers every run.

{groups}

New here? besom sweep digits takes about a minute and needs no download; then besom ui.

Each command has its own --help. Everything is recorded under mlruns/ in the current folder,
or where MLFLOW_TRACKING_URI points. Tab completion: eval "$(besom -sc install=bash)"
"""


def overview() -> str:
    """Return the output of `besom --help`."""
    return _OVERVIEW.format(groups="\n\n".join(map(_lines, GROUPS)))


def _lines(group: Group) -> str:
    lines = [
        f"  besom {command.name:<13}{command.summary:<38}besom {command.example}".rstrip() for command in group.commands
    ]
    return "\n".join([f"{group.title}:", *lines])
