"""Who started a run, and by which command. Never an environment variable's value."""

from __future__ import annotations

import getpass
import shlex
import sys
from pathlib import Path

from besom.secrets.masks import masked_override, without_secrets
from besom.version import __version__

TRAINED_IN = "besom.folder"


def command_tags() -> dict[str, str]:
    """Return MLflow's tags for the command line and its user, the folder where it was typed, and Besom's version."""
    return {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command_line(),
        "mlflow.user": _user(),
        "besom.version": __version__,
        TRAINED_IN: str(Path.cwd()),
    }


def command_line() -> str:
    """The command as it was typed, secrets masked; sys.argv holds what was made of it for Hydra."""
    program, *arguments = sys.orig_argv[1:] or sys.argv
    return without_secrets(shlex.join([Path(program).name, *map(masked_override, arguments)]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
