"""Git repositories for tests, with an identity of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(*arguments: str, folder: Path) -> str:
    """What a git command prints in a folder."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """Write files (`net__py` is net.py) into a repository, which is made if need be, and commit them; its commit."""
    folder.mkdir(exist_ok=True)
    if not (folder / ".git").exists():
        git("init", "-q", folder=folder)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    git("add", ".", folder=folder)
    git("commit", "-q", "-m", "another", folder=folder)
    return git("rev-parse", "HEAD", folder=folder)
