from __future__ import annotations

import io
import platform
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from besom.errors import BesomError
from besom.reproduce.environment import make_environment, python_with
from besom.tracking.code import packages

MINOR = ".".join(platform.python_version_tuple()[:2])
LISTED = f"# Python {MINOR}.0\n# besom==0.1.0 from a working tree\ntiny==1.0\n"


class Maker:
    """Fakes an environment by a file in place of its Python, and records the arguments."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.fails = fails

    def __call__(self, python: Path, wanted: str, place: Path, pip_args: Sequence[str]) -> None:
        self.asked.append((wanted, tuple(pip_args)))
        (place / "bin").mkdir(parents=True, exist_ok=True)
        if self.fails:
            raise BesomError("pip fails")
        (place / "bin/python").touch()


def found(listed: str, folder: Path, make: Maker, *pip_args: str) -> tuple[Path, str]:
    output = io.StringIO()
    console = Console(file=output, width=500)
    return python_with(listed, folder, console, pip_args=pip_args, make=make), output.getvalue()


def test_this_environment_is_taken_where_its_packages_are_those_recorded(tmp_path: Path):
    make = Maker()
    python, told = found(packages(), tmp_path, make)
    assert not make.asked
    assert f"this one, which has the {len(packages().splitlines()) - 2} recorded packages" in told
    assert subprocess.run([python, "-c", "import torch"], check=False, capture_output=True).returncode == 0


def test_another_one_is_made_once_and_kept(tmp_path: Path):
    make = Maker()
    first, told = found(LISTED, tmp_path, make, "--no-index")
    assert make.asked == [("tiny==1.0\n", ("--no-index",))]
    assert f"new, with Python {MINOR}" in told
    again, told = found(LISTED, tmp_path, make)
    assert len(make.asked) == 1
    assert again == first
    assert "made before" in told
    other, _ = found(LISTED.replace("1.0\n", "2.0\n"), tmp_path, make)
    assert other != first


def test_a_half_made_one_is_not_used(tmp_path: Path):
    with pytest.raises(BesomError, match="pip fails"):
        found(LISTED, tmp_path, Maker(fails=True))
    make = Maker()
    found(LISTED, tmp_path, make)
    assert len(make.asked) == 1


def test_a_python_that_is_not_there_is_told_of(tmp_path: Path):
    with pytest.raises(BesomError, match=r"trained with Python 3\.2, and there is no python3\.2 on the PATH; install"):
        found(LISTED.replace(f"Python {MINOR}", "Python 3.2"), tmp_path, Maker())
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_real_one_has_what_is_recorded_and_nothing_else(tmp_path: Path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "WORD = 'here'\n")
        wheel.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: no"
        )
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    output = Console(file=io.StringIO())
    from_here = ("--no-index", "--find-links", str(wheels))
    python = python_with(LISTED, tmp_path / "made", output, pip_args=from_here, make=make_environment)
    said = subprocess.run([python, "-c", "import tiny; print(tiny.WORD)"], check=True, capture_output=True, text=True)
    assert said.stdout == "here\n"
    with pytest.raises(BesomError, match="cannot be installed, see above; what pip needs besides"):
        python_with(LISTED + "none==1.0\n", tmp_path / "made", output, pip_args=from_here, make=make_environment)
