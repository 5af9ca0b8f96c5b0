"""Git, by its command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from besom.errors import first_line


class GitFailed(Exception):
    """Git is missing, or a command failed; the message is the last line of its output."""


def git(*arguments: str, given: str = "", settings: Mapping[str, str] | None = None, patience_s: float = 30) -> str:
    """Return the output of a git command; non-UTF-8 bytes become surrogates, also in the input `given`.

    `settings` are environment variables. Raises GitFailed.
    """
    try:
        result = subprocess.run(
            ["git", *arguments], input=given.encode("utf-8", "surrogateescape"), capture_output=True, check=False,
            timeout=patience_s, env={**os.environ, **(settings or {})},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise GitFailed(first_line(error)) from error
    if result.returncode:
        message = result.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {result.returncode}"]
        raise GitFailed(message[-1])
    return result.stdout.decode("utf-8", "surrogateescape")
