"""Git, asked by its command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from besom.errors import first_line


class GitFailed(Exception):
    """Git is not there, or cannot do it; the message is one line, what it said itself."""


def git(*arguments: str, given: str = "", settings: Mapping[str, str] | None = None, patience_s: float = 30) -> str:
    """Return what a git command prints; bytes that are not UTF-8 as surrogates, of `given` too, which it reads.

    `settings` are environment variables. Raises GitFailed.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], input=given.encode("utf-8", "surrogateescape"), capture_output=True, check=False,
            timeout=patience_s, env={**os.environ, **(settings or {})},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise GitFailed(first_line(error)) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitFailed(said[-1])
    return done.stdout.decode("utf-8", "surrogateescape")
