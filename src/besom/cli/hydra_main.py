"""The Hydra app behind `besom train` and `besom sweep`: an ordinary `@hydra.main` around one run."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from besom.config.checks import folds_of, require_groups
from besom.config.hydra_versions import VERSION_BASE
from besom.config.messages import explain, unforeseen
from besom.config.objectives import COSTS, read_objectives
from besom.config.paths import SearchPath, search_path
from besom.config.schema import register_schemas
from besom.config.units import Unit
from besom.errors import BesomError, ConfigError
from besom.tracking.tags import Tag


def without_ranges(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without those of a sweep: `choice(…)`, `interval(…)` and the like."""
    parser = OverridesParser.create()
    return [text for text in overrides if not parser.parse_override(text).is_sweep_override()]


def run(folders: Sequence[Path], config_name: str, arguments: Sequence[str]) -> None:
    """Run the app with these folders as its search path, in this order."""
    register_schemas()
    first, *others = dict.fromkeys(folder.resolve() for folder in folders)
    app: Callable[[], Any] = hydra.main(config_path=str(first), config_name=config_name, **VERSION_BASE)(train_task)
    try:
        with _command_line(arguments), search_path(others) as searched:
            app()
    except _TaskFailed as failed:
        raise failed.error from failed
    except MissingConfigException as error:
        raise ConfigError(_missing(error, searched)) from error
    except HydraException as error:
        if (file := _file_that_refers(error, searched)) is None:
            raise
        raise ConfigError(f"{file}: defaults: {explain(error)}") from error
    except (BesomError, YAMLError, BrokenPipeError):
        raise
    except OmegaConfBaseException as error:
        raise ConfigError(f"{config_name}.yaml: {explain(error)}") from error
    except Exception as error:
        if not _raised_while_composing(error):
            raise
        raise ConfigError(f"{config_name}.yaml: {unforeseen(error)}") from error


def _missing(error: MissingConfigException, searched: SearchPath) -> str:
    """Return the message for a missing config, with the file that names it, unless the command line does."""
    line, file = explain(error), searched.named_in.get(str(error.missing_cfg_file))
    return line if file is None else f"{file}: defaults: {line.removeprefix(f'{file}: ')}"


def _file_that_refers(error: HydraException, searched: SearchPath) -> str | None:
    """Return the file whose defaults list holds an interpolation that Hydra cannot resolve, if that is the error."""
    unresolved = re.match(r"Error resolving interpolation '(.*?)', ", str(error))
    if unresolved is None:
        return None
    return next((file for name, file in searched.named_in.items() if f"/{name}".endswith(f"/{unresolved[1]}")), None)


def train_task(config: DictConfig) -> float | tuple[float, ...]:
    """Train one run as the Hydra task function. Returns the objective's best value, or those of several objectives."""
    # These import Optuna and SQLAlchemy, which would cost --help, --cfg and completion half a second.
    from besom.reports.format import named, number
    from besom.sweep.single import run_single
    from besom.system.console import plain_console
    from besom.tracking.store import Location

    try:
        require_groups(config, f"{HydraConfig.get().job.config_name}.yaml")
        trained = run_single(
            config,
            name=_run_name(),
            tags={Tag.OVERRIDES: " ".join(_overrides())},
            location=Location.of(config.tracking),
            console=plain_console(),
            overrides=_overrides(),
        )
    except Exception as error:
        if HydraConfig.get().runtime.choices.get("hydra/launcher") != "basic":
            raise  # in a process of that launcher, which returns the exception
        raise _TaskFailed(error) from error
    result = trained.result
    assert result is not None
    shown = ", ".join(named(read_objectives(config), result.values))
    summary = "".join(f"   {name} {number(value, name)}" for name, value in result.summary.items() if name not in COSTS)
    best = {
        Unit.EPOCH: f"best {shown} at epoch {result.best_epoch}",
        Unit.STEP: f"best {shown} at step {result.best_step}, in epoch {result.best_epoch}",
        Unit.FOLD: f"mean {shown} over {folds_of(config)} folds",
    }[trained.axis]
    sys.stdout.write(f"{best}{summary}   ({result.duration_s or 0:.1f} s)\n")
    sys.stdout.write(f"run {trained.run_id or 'none (tracking=none)'}\n")
    return result.values if len(result.values) > 1 else result.values[0]


train_task.trains_besom_config = True  # type: ignore[attr-defined]  # hydra/sweeper=besom checks for it


@dataclass
class _TaskFailed(BaseException):  # not an Exception, which Hydra would catch and print
    error: Exception


def _overrides() -> list[str]:
    # Unresolved: an override may contain an interpolation, which has no meaning here.
    return OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[return-value]


def _run_name() -> str:
    choices = HydraConfig.get().runtime.choices
    experiment = choices.get("experiment")
    return str(experiment) if experiment not in (None, "null") else f"{choices.get('data')}-{choices.get('model')}"


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Set sys.argv to these arguments, and let Hydra raise its errors instead of printing them over many lines."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [argv[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _raised_while_composing(error: BaseException) -> bool:
    """Return whether the error was raised by Hydra itself: no frame of Besom lies between `run` and its origin."""
    frames = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not any(name.startswith(("besom.", "hydra_plugins.besom")) for name in frames[1:])
