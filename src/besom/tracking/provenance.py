"""Where a run came from: the command, the commit, the user's overrides. Never an environment variable's value."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from pathlib import Path

import besom
from besom.config import mask


def code_tags() -> dict[str, str]:
    """Return MLflow's tags for the command line and the state of the git repository of the current folder."""
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command_line(),
        "mlflow.user": _user(),
        "besom.version": besom.__version__,
    }
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["besom.git.dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def command_line() -> str:
    """The command as it was typed, passwords masked; sys.argv holds what was made of it for Hydra."""
    program, *arguments = sys.orig_argv[1:] or sys.argv
    return mask(shlex.join([Path(program).name, *arguments]))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
