"""The user and the command that started a run. Values of environment variables are never recorded."""

from __future__ import annotations

import getpass
import shlex
import sys
from pathlib import Path

from besom.secrets.masks import masked_override, without_secrets
from besom.tracking.tags import Tag
from besom.version import __version__


def command_tags() -> dict[str, str]:
    """Return MLflow's tags for the command line, the user, the working directory, and Besom's version."""
    return {
        "mlflow.source.type": "LOCAL",
        Tag.COMMAND: command_line(),
        "mlflow.user": _user(),
        Tag.VERSION: __version__,
        Tag.FOLDER: str(Path.cwd()),
    }


def command_line() -> str:
    """Return the command line as typed, with secrets masked; sys.argv holds what is passed to Hydra."""
    program, *arguments = sys.orig_argv[1:] or sys.argv
    return without_secrets(shlex.join([Path(program).name, *map(masked_override, arguments)]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
