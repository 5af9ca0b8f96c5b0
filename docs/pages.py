"""Generate docs/commands/, a page per command, from the output of --help: `make docs`. A test compares the two.

Python 3.13 changed the layout of argparse's help: run this with an older version.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from besom.cli.groups import COMMANDS

FOLDER = Path(__file__).parent / "commands"
_WIDTH = 110


def pages() -> Mapping[str, str]:
    """Return the pages by the names of their files."""
    commands = sorted(COMMANDS)
    with ThreadPoolExecutor() as threads:
        texts = dict(zip(["", *commands], threads.map(help_of, ["", *commands]), strict=True))
    index = "".join(f"- [besom {command}]({command}.md)\n" for command in commands)
    found = {"README.md": f"# Commands\n\n{index}\n{_fenced(texts[''])}"}
    for command in commands:
        found[f"{command}.md"] = f"# besom {command}\n\n{_fenced(texts[command])}"
    return found


def help_of(command: str) -> str:
    """Return the output of a command's --help in an empty folder."""
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "besom.cli", *([command] if command else []), "--help"],
            cwd=nowhere,
            env={**os.environ, "COLUMNS": str(_WIDTH), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def _fenced(text: str) -> str:
    return f"```\n{text}\n```\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
