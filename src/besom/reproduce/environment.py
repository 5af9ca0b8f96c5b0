"""A Python with the packages that a run was trained with: this one, one that was made before, or a new one."""

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
"""Makes an environment: the Python to take, what pip is to install, an empty or unfinished folder, pip's arguments."""


def python_with(recorded: str, folder: Path, console: Console, *, pip_args: Sequence[str], make: Make) -> Path:
    """Return a Python that has the packages of a recorded list, kept under `folder` for the next time if made.

    Raises BesomError where there is no such Python, or what is recorded cannot be installed.
    """
    wanted, version = requirements(recorded), _minor(recorded)
    if (wanted, version) == (requirements(packages()), _minor(packages())):
        console.print(f"environment: this one, which has the {len(wanted)} recorded packages", highlight=False)
        return Path(sys.executable)
    text = "\n".join(wanted) + "\n"
    place = folder / hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()[:12]
    complete = place / ".complete"  # written last: one that is left half made is made anew
    with locked(folder / f"{place.name}.lock", wait=True):
        if complete.exists():
            told = "made before"
        else:
            told = f"new, with Python {version}"
            console.print(f"making an environment of the {len(wanted)} recorded packages …", highlight=False)
            make(_find_python(version), text, place, pip_args)
            complete.touch()
    console.print(f"environment: {place}, {told}", highlight=False, soft_wrap=True)
    return place / "bin" / "python"


def requirements(listed: str) -> list[str]:
    """Return what a list of packages asks pip for; what is a comment there is imported from a working tree."""
    return [line for line in listed.splitlines() if line and not line.startswith("#")]


def _minor(listed: str) -> str:
    """The version of Python that a list names, such as 3.12: a patch is not worth gigabytes of the same packages."""
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
    """Make a virtual environment and install exactly what is wanted, nothing that it would depend on besides.

    Raises BesomError when that fails; what pip says is shown.
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
