"""A Python environment with the packages of a run: the current one, an existing one, or a new one."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from besom.errors import BesomError
from besom.system.locks import locked
from besom.tracking.code import PACKAGES, packages

Make = Callable[[Path, str, Path, Sequence[str]], None]
"""Creates an environment from a Python, the requirements, an empty or unfinished folder, and pip's arguments."""


def python_with(recorded: str, folder: Path, console: Console, *, pip_args: Sequence[str], make: Make) -> Path:
    """Return a Python that has the packages of a recorded list; a new environment is kept in `folder` for reuse.

    Raises BesomError if there is no such Python, or the packages cannot be installed.
    """
    wanted, version = requirements(recorded), _minor(recorded)
    if (wanted, version) == (requirements(packages()), _minor(packages())):
        console.print(f"environment: this one, which has the {len(wanted)} recorded packages", highlight=False)
        return Path(sys.executable)
    text = "\n".join(wanted) + "\n"
    place = folder / hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()[:12]
    complete = place / ".complete"  # written last: an incomplete environment is created again
    with locked(folder / f"{place.name}.lock", wait=True):
        if complete.exists():
            origin = "made before"
        else:
            origin = f"new, with Python {version}"
            console.print(f"making an environment of the {len(wanted)} recorded packages …", highlight=False)
            make(_find_python(version), text, place, pip_args)
            complete.touch()
    console.print(f"environment: {place}, {origin}", highlight=False, soft_wrap=True)
    return place / "bin" / "python"


def requirements(listed: str) -> list[str]:
    """Return the pip requirements of a list; its comments are packages imported from a working tree."""
    return [line for line in listed.splitlines() if line and not line.startswith("#")]


def _minor(listed: str) -> str:
    """Return the Python version of a list, such as 3.12; another patch release does not justify a new environment."""
    found = re.match(r"# Python (\d+\.\d+)", listed)
    return found[1] if found else ".".join(platform.python_version_tuple()[:2])


def _find_python(version: str) -> Path:
    path = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), os.environ.get("PATH", os.defpath)])
    if found := shutil.which(f"python{version}", path=path):
        return Path(found)
    raise BesomError(
        f"the run was trained with Python {version}, and there is no python{version} on the PATH; install it, or "
        "compare in this environment by --here"
    )


def make_environment(python: Path, wanted: str, place: Path, pip_args: Sequence[str]) -> None:
    """Create a virtual environment with exactly these packages, without further dependencies.

    Raises BesomError when that fails; pip's output is shown.
    """
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement")
    try:
        subprocess.run([python, "-m", "venv", "--clear", place], check=True)
        (place / PACKAGES).write_text(wanted, encoding="utf-8")
        subprocess.run([place / "bin" / "python", *install, place / PACKAGES, *pip_args], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BesomError(
            f"{place / PACKAGES}: the recorded packages cannot be installed, see above; what pip needs besides, such "
            "as an index, goes into --pip-args"
        ) from error
