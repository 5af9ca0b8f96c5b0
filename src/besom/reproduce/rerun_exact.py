"""`besom reproduce RUN_ID --exact`: a rerun in the recorded code and packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from besom.config.targets.trust import RECORDED_CODE, SHIPPED, VARIABLE, Trust
from besom.errors import BesomError, ConfigError, Interrupted
from besom.reproduce.environment import Make, make_environment, python_with
from besom.reproduce.rerun import require_secrets
from besom.reproduce.working_tree import Code, WorkingTree, working_tree
from besom.system.interrupts import interrupts
from besom.system.processes import how_it_ended
from besom.tracking.code import DIFF, PACKAGES
from besom.tracking.code import FOLDER as FOLDER_OF_CODE
from besom.tracking.runs import Runs
from besom.tracking.store import Location
from besom.tracking.tags import Tag

FOLDER = "exact"


def reproduce_exactly(
    run_id: str,
    location: Location,
    console: Console,
    *,
    tolerance: float | None = None,
    trust: Trust = SHIPPED,
    pip_args: Sequence[str] = (),
    make: Make = make_environment,
) -> int:
    """Run `besom reproduce` in the code and the packages that a run was recorded with, and return its exit code.

    The code is a temporary git working tree, the packages an environment that is kept. Data and store are those of the
    current folder. Raises BesomError for what cannot be restored, and for what `trust` does not allow: recorded changes
    and packages are code as well.
    """
    runs = Runs(location)
    recorded = runs.run(run_id)
    files = runs.code(recorded)
    if Tag.APP in recorded.tags:
        raise BesomError(
            f"--exact: run '{run_id}' is a job of another Hydra app, which runs from this folder; check out commit "
            f"{recorded.tags.get(Tag.COMMIT, 'unknown')[:10]} and leave --exact out"
        )
    code = Code.of(recorded, files)
    require_secrets(recorded)
    trust.resolve({**recorded.config, "tracking": {}})
    if code.diff:
        _require_trust(trust, f"the uncommitted changes of run '{run_id}' ({FOLDER_OF_CODE}/…/{DIFF}) are to be run")

    def make_if_trusted(python: Path, wanted: str, place: Path, pip_args: Sequence[str]) -> None:
        _require_trust(trust, f"the packages of run '{run_id}' ({FOLDER_OF_CODE}/…/{PACKAGES}) are to be installed")
        make(python, wanted, place, pip_args)

    folder = location.directory / FOLDER
    if os.pathsep in str(folder):
        raise BesomError(f"--exact: Python finds no code in {folder}, for {os.pathsep} divides its paths; rename it")
    with working_tree(code, folder / "trees") as tree:
        listed = files[PACKAGES].decode("utf-8")
        python = python_with(listed, folder / "environments", console, pip_args=pip_args, make=make_if_trusted)
        changed = " with its uncommitted changes" if code.diff else ""
        console.print(f"code: commit {code.commit[:10]}{changed}", highlight=False)
        arguments = [run_id] if tolerance is None else [run_id, "--tolerance", str(tolerance)]
        return _besom(python, tree, ["reproduce", *arguments], trust)


def _require_trust(trust: Trust, what: str) -> None:
    if not trust.trusts(RECORDED_CODE):
        raise ConfigError(
            f"--exact: {what}, which whoever recorded it chose; look at it, and if you trust it: "
            f"{trust.instruction(RECORDED_CODE)}"
        )


def _besom(python: Path, tree: WorkingTree, arguments: Sequence[str], trust: Trust) -> int:
    """Run `besom` in the working tree; a ctrl-C is passed on, so that both processes end cleanly."""
    sys.stdout.flush()
    with interrupts() as stop:
        command = [str(python), "-m", "besom.cli", *arguments]
        environment = {**tree.environment(), VARIABLE: ",".join(trust.names)}  # an earlier Besom has no such flag
        with subprocess.Popen(command, env=environment, process_group=0) as child:
            try:
                while child.poll() is None:
                    if stop.asked and not stop.noticed:
                        stop.noticed = True
                        child.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(timeout=0.1)
            except BaseException:
                child.kill()
                raise
    if stop.asked:
        raise Interrupted
    if child.returncode < 0:
        raise BesomError(f"besom in {tree.folder} {how_it_ended(child.returncode)}; run the same command again")
    return child.returncode
