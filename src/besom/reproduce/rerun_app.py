"""A recorded job of another Hydra app, run again: the app itself, in a fresh process, with the recorded overrides.

The app's code and configs are those of the current folder, and are trusted by name. A record may choose nothing else
that is run: its overrides name only targets and variables that are trusted, and no keys of Hydra itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from besom.config.messages import explain
from besom.config.targets.trust import Trust
from besom.errors import BesomError, ConfigError, RunNotFound
from besom.hydra_app.single_job import REPRODUCES
from besom.sweep.space.grammar import plain
from besom.sweep.space.overrides import to_overrides
from besom.system.processes import how_it_ended
from besom.tracking.app_command import AppCommand
from besom.tracking.runs import RecordedRun, Runs
from besom.tracking.store import Location
from besom.tracking.tags import Tag

EXPERIMENT = "reproduce"
_HYDRA_FILES = ".hydra"
_NOTHING_SAMPLED = dict.fromkeys(("params", "search_space", "when", "custom_search_space", "finalists"))


def rerun_app(recorded: RecordedRun, app: AppCommand, runs: Runs, location: Location, trust: Trust) -> str:
    """Run a recorded job of an app again and record it; return the new run's id.

    Raises RunNotFound if its overrides were not recorded, ConfigError for an app or overrides that `trust` does not
    allow, and BesomError if the job fails.
    """
    _check_app(recorded, app, trust)
    overrides = _overrides(runs, recorded)
    _check_overrides(recorded, overrides, trust)
    before = set(runs.reproductions(recorded.run_id))
    words = [*app.words, "--multirun", *overrides, *_sweeper(recorded, runs, location)]
    sys.stdout.flush()
    ended = subprocess.run([sys.executable, *words], env={**os.environ, REPRODUCES: recorded.run_id}, check=False)
    made = [run_id for run_id in runs.reproductions(recorded.run_id) if run_id not in before]
    if ended.returncode != 0:
        run = f" (run {made[0]})" if made else ""
        raise BesomError(f"run '{recorded.run_id}': {app} {how_it_ended(ended.returncode)}{run}; its output says why")
    if not made:
        raise BesomError(f"run '{recorded.run_id}': {app} ran no job of its Hydra app; see that it calls its task")
    return made[0]


def _check_app(recorded: RecordedRun, app: AppCommand, trust: Trust) -> None:
    folder = recorded.tags.get(Tag.FOLDER, "")
    if app.script is not None and not app.script.is_file():
        raise RunNotFound(
            f"run '{recorded.run_id}': its app, {app.script}, is not here; it was started in {folder}: go there"
        )
    if not trust.covers(app.trusted_as):
        place = app.script.absolute() if app.script is not None else app.module
        raise ConfigError(
            f"run '{recorded.run_id}' is a job of a Hydra app: {place} would run with what was recorded; if you trust "
            f"{app.trusted_as}: {trust.instruction(app.trusted_as)}"
        )
    for configs in app.folders:
        if not configs.resolve().is_relative_to(Path.cwd().resolve()):
            raise ConfigError(
                f"run '{recorded.run_id}': its configs are in {configs}, outside of this folder, where they may be "
                "anyone's; run the app yourself"
            )


def _overrides(runs: Runs, recorded: RecordedRun) -> list[str]:
    found = _read(runs, recorded, "overrides.yaml")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RunNotFound(
            f"run '{recorded.run_id}' has no {_HYDRA_FILES}/overrides.yaml, so that nothing says what to run; jobs "
            "record it unless hydra.output_subdir is null"
        )
    return found


def _read(runs: Runs, recorded: RecordedRun, name: str) -> Any:
    text = runs.text(recorded.run_id, f"{_HYDRA_FILES}/{name}")
    try:
        return None if text is None else yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _check_overrides(recorded: RecordedRun, overrides: Sequence[str], trust: Trust) -> None:
    where = f"run '{recorded.run_id}'"
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"{where}: {explain(error)}") from error
    for one in parsed:
        key = str(one.key_or_group)
        if key.partition(".")[0].partition("/")[0] == "hydra":
            raise ConfigError(
                f"{where}: the recorded override {one.input_line} is of Hydra itself; run the app yourself"
            )
        if one.is_sweep_override():
            raise ConfigError(f"{where}: the recorded override {one.input_line} is of several jobs; take one of a job")
        tree = OmegaConf.create({})
        OmegaConf.update(tree, key, plain(one.value()), force_add=True)
        written = OmegaConf.to_container(tree, resolve=False)
        assert isinstance(written, dict)
        trust.check_written({str(name): value for name, value in written.items()})


def _sweeper(recorded: RecordedRun, runs: Runs, location: Location) -> Iterator[str]:
    """Yield the overrides with which Besom's sweeper runs one job, as it ran the recorded one."""
    keys: dict[str, Any] = {**_NOTHING_SAMPLED, "n_jobs": 1, "dry_run": False, "quiet": False}
    keys["study_name"] = f"{recorded.name}-again"
    elsewhere = "MLFLOW_TRACKING_URI" in os.environ
    keys["tracking"] = {"experiment": EXPERIMENT, **({} if elsewhere else {"directory": str(location.directory)})}
    if recorded.tags.get(Tag.DEVICE, "").startswith("cpu"):
        keys["devices"] = "cpu"
    if (threads := recorded.tags.get(Tag.THREADS, "")).isdecimal():
        keys["threads_per_trial"] = int(threads)
    hydra = _read(runs, recorded, "hydra.yaml")
    direction = _at(hydra, "hydra", "sweeper", "direction")
    if isinstance(direction, list):
        keys["direction"] = list(map(str, direction))  # so that there are as many values
    yield "hydra/sweeper=besom"
    yield "hydra/launcher=basic"
    if isinstance(chdir := _at(hydra, "hydra", "job", "chdir"), bool):
        yield f"hydra.job.chdir={str(chdir).lower()}"
    yield from to_overrides({f"hydra.sweeper.{key}": value for key, value in keys.items()})


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
