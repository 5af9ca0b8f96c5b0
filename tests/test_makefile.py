"""The Makefile's set-up, with a Python that only notes what it is asked to do; and what runs its targets elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# `PYTHON -m venv --clear .venv` leaves the same script there, as a virtual environment's Python.
PYTHON = """\
#!/bin/sh
echo "$*" >> calls
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *"--editable"*) [ ! -e pip-fails ];;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "fake-python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "PYTHON=./fake-python", *arguments],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def calls(checkout: Path, word: str) -> list[str]:
    """The calls since the last look that hold a word."""
    log = checkout / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line for line in lines if word in line]


def test_help_is_the_default_and_sets_nothing_up(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    for target in ("setup", "sweep", "train", "reproduce", "ui", "test", "check", "lint", "types", "clean"):
        assert f"make {target} " in done.stdout
    assert not (checkout / ".venv").exists()


def test_setup_installs_once(checkout: Path) -> None:
    assert make(checkout, "setup").returncode == 0
    assert calls(checkout, "--editable")
    assert make(checkout, "setup").returncode == 0
    assert not calls(checkout, "-m")


def test_setup_hands_its_arguments_to_every_pip_call(checkout: Path) -> None:
    make(checkout, "setup", "PIP_ARGS=--extra-index-url file:///mirror")
    installs = calls(checkout, "pip install")
    assert len(installs) == 2
    assert all("--extra-index-url file:///mirror" in call and "constraints.txt" in call for call in installs)


def test_half_finished_setup_is_made_anew(checkout: Path) -> None:
    (checkout / "pip-fails").touch()
    assert make(checkout, "setup").returncode != 0
    (checkout / "pip-fails").unlink()
    calls(checkout, "")
    assert make(checkout, "setup").returncode == 0
    assert calls(checkout, "venv --clear .venv")


def test_changed_lock_updates_the_environment_in_place(checkout: Path) -> None:
    make(checkout, "setup")
    calls(checkout, "")
    stamp = (checkout / ".venv" / ".installed").stat().st_mtime
    os.utime(checkout / "constraints.txt", (stamp + 1, stamp + 1))
    assert make(checkout, "setup").returncode == 0
    made = calls(checkout, "-m")
    assert [call for call in made if "--editable" in call]
    assert not [call for call in made if "venv" in call.split()]


def test_moved_checkout_gets_a_new_environment(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    make(checkout, "setup")
    moved = shutil.move(checkout, tmp_path_factory.mktemp("moved") / "checkout")
    calls(moved, "")
    assert make(moved, "setup").returncode == 0
    assert calls(moved, "venv --clear .venv")


def test_python_that_is_too_old_is_refused_with_a_remedy(checkout: Path) -> None:
    (checkout / "fake-python").write_text("#!/bin/sh\nexit 1\n")
    done = make(checkout, "setup")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "PYTHON=/path/to/python3" in done.stderr


def test_reproduce_without_a_run_says_so_before_it_sets_anything_up(checkout: Path) -> None:
    done = make(checkout, "reproduce")
    assert done.returncode == 2
    assert "make reproduce RUN=<run id>" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


def test_reproduce_passes_the_run_and_more_on(checkout: Path) -> None:
    make(checkout, "setup")
    assert make(checkout, "reproduce", "RUN=abc", "ARGS=--exact").returncode == 0
    assert calls(checkout, "reproduce abc --exact")


def test_clean_keeps_what_is_recorded_and_the_data(checkout: Path) -> None:
    make(checkout, "setup")
    for folder in ("mlruns", "data", "dist", "src", "tests/__pycache__", "bench"):
        (checkout / folder).mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    left = {path.name for path in checkout.iterdir()}
    assert {"mlruns", "data", "src"} <= left
    assert not {".venv", "dist"} & left
    assert not (checkout / "tests" / "__pycache__").exists()


def test_a_checkout_lies_in_a_folder_of_any_name(checkout: Path) -> None:
    odd = shutil.copytree(
        checkout, checkout / """ !"#$%&'()*+,-.0;<=>?@A[]^_`a{|}~\\ ö  b""", ignore=shutil.ignore_patterns(" *")
    )
    assert make(odd, "setup").returncode == 0
    assert calls(odd, "--editable")
    assert make(odd, "setup").returncode == 0
    assert not calls(odd, "-m pip")
    assert make(odd, "sweep", "ARGS=--dry-run").returncode == 0
    assert calls(odd, "-m besom.cli sweep digits --dry-run")


def test_a_checkout_where_python_makes_no_environment_is_refused_in_one_line(checkout: Path) -> None:
    odd = shutil.copytree(checkout, checkout / "a:b", ignore=shutil.ignore_patterns("a:*"))
    done = make(odd, "setup")
    assert done.returncode != 0
    assert "with : in its name; rename" in done.stderr
    assert not (odd / ".venv").exists()


def workflow() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]


def workflow_commands() -> list[str]:
    return [step["run"] for job in workflow().values() for step in job["steps"] if "run" in step]


def targets(commands: str) -> set[str]:
    """The targets that `make` is told in some text; `check` counts as the two that it consists of."""
    found = set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE))
    return found - {"check"} | ({"lint", "types"} if "check" in found else set())


def test_check_consists_of_lint_and_types() -> None:
    assert re.search(r"^check: lint types ##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_workflow_and_ci_run_have_the_same_steps() -> None:
    here = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    there = "\n".join(workflow_commands())
    assert targets(there) - {"test-floors", "test-newest"} == targets(here)
    for step in re.findall(r"^make .*ARGS=.*$", here, re.MULTILINE):
        assert step in workflow_commands()


def test_the_workflow_tests_the_oldest_and_the_newest_python_and_both_ends_of_the_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert project["requires-python"] == f">={versions[0]}"
    assert workflow()["tests"]["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]
    newest = [case["python"] for case in workflow()["newest"]["strategy"]["matrix"]["include"]]
    assert {*versions[1:]} == {*newest}
    assert {"test-floors", "test-newest"} <= targets("\n".join(workflow_commands()))


def test_the_hooks_of_a_commit_run_the_tools_of_make_check() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["entry"] for repo in config["repos"] for hook in repo["hooks"]}
    recipes = set(
        re.findall(r"^\t@\$\(IN_VENV\) (ruff \w+|mypy)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    )
    assert recipes == {"ruff check", "ruff format", "mypy"}
    for tool in recipes:
        assert any(hook.startswith(f".venv/bin/python -P -m {tool}") for hook in hooks), tool
