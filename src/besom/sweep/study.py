"""The study: opened or resumed, asked and told by this process alone.

The sampler is built anew for each trial from (seed, trial number), so that a resumed sweep asks what an
uninterrupted one would have asked.
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from besom.config import mask
from besom.errors import ConfigError, StoreError
from besom.sweep.space import Params, SearchSpace
from besom.sweep.spec import SweepSpec

INTERRUPTED = "besom.interrupted"
_SPACE, _OBJECTIVE = "besom.space", "besom.objective"

_DEFAULT_SAMPLER: Mapping[str, Any] = {
    "_target_": "optuna.samplers.TPESampler",
    # Conditional parameters are modelled together with those they appear with, not one by one.
    "group": True,
    "multivariate": True,
}
# Samplers whose points form one sequence: another seed per trial would tear it apart.
_SEQUENCES = ("QMCSampler",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial that the sampler proposed."""

    trial: Trial
    params: Params

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number


class StudyBook:
    """Asks and tells one study, and knows how many of its trials are still to come."""

    def __init__(self, study: optuna.Study, spec: SweepSpec, space: SearchSpace) -> None:
        self.study = study
        self._spec = spec
        self._space = space
        self._done = len(finished_trials(study))

    @property
    def done(self) -> int:
        """Trials that are over and count: complete, pruned or failed, but not interrupted."""
        return self._done

    def ask(self) -> Asked:
        """Ask for the next trial; one that was interrupted comes again first, with its parameters."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = build_sampler(self._spec, number)
        trial = self.study.ask()
        return Asked(trial=trial, params=self._space.sample(trial))

    def tell(self, trial: Trial, value: float | None) -> None:
        """Tell a trial's objective value, or None for a failure."""
        self._done += 1
        if value is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, value)

    def interrupt(self, trial: Trial) -> None:
        """Put back a trial that was stopped through no fault of its own."""
        put_back(self.study, trial)


@contextmanager
def open_study(spec: SweepSpec, space: SearchSpace, directory: Path) -> Iterator[StudyBook]:
    """Create the study or take it up where it was left; hold it against a second parent meanwhile.

    Trials that are still RUNNING belong to a parent that died: they are put back.
    Raises StoreError when the storage cannot be used or the study is held by another process, ConfigError when
    the study was made for another search space or objective.
    """
    url = spec.storage_url(directory)
    with _lock(directory, spec.study_name):
        try:
            study = optuna.create_study(
                storage=url,
                study_name=spec.study_name,
                direction=StudyDirection[spec.direction.upper()],
                sampler=build_sampler(spec, 0),
                pruner=optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError, ValueError) as error:
            raise StoreError(
                f"{mask(url)}: cannot be used as the study's storage ({_cause(error)}); move the file away, "
                "or set hydra.sweeper.storage"
            ) from error
        _check_same(study, spec, space)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            put_back(study, Trial(study, trial._trial_id))
        yield StudyBook(study, spec, space)


def put_back(study: optuna.Study, trial: Trial) -> None:
    """Tell FAIL for an interrupted trial and enqueue its parameters again."""
    params = trial.params
    trial.set_user_attr(INTERRUPTED, True)
    study.tell(trial, state=TrialState.FAIL)
    if params:
        study.enqueue_trial(params)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count towards `n_trials`."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not trial.user_attrs.get(INTERRUPTED)
    ]


def build_sampler(spec: SweepSpec, trial_number: int) -> BaseSampler:
    """Build the sampler that asks for one trial.

    Raises ConfigError for a sampler that does not exist or does not take what it was given.
    """
    config = dict(spec.sampler or _DEFAULT_SAMPLER)
    where = f"{spec.source}: hydra.sweeper.sampler"
    try:
        target = get_class(config["_target_"])
    except KeyError as error:
        raise ConfigError(f"{where}: has no _target_; name one, such as optuna.samplers.TPESampler") from error
    except Exception as error:  # Hydra raises whatever the import raised
        known = ", ".join(name for name in optuna.samplers.__all__ if name.endswith("Sampler") and name[0] != "B")
        raise ConfigError(
            f"{where}: {config['_target_']} does not exist; use optuna.samplers. followed by one of {known}"
        ) from error
    seed = config.pop("seed", None)
    seed = spec.seed if seed is None else int(seed)
    if "seed" in inspect.signature(target).parameters:
        sequence = target.__name__ in _SEQUENCES
        config["seed"] = seed if sequence else _derived_seed(seed, trial_number)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(f"{where}: {_cause(error)}; see Optuna's page on {config['_target_']}") from error
    if not isinstance(sampler, BaseSampler):
        raise ConfigError(f"{where}: {config['_target_']} is not an Optuna sampler; name one of optuna.samplers")
    return sampler


def _derived_seed(seed: int, trial_number: int) -> int:
    return int(np.random.SeedSequence([seed, trial_number]).generate_state(1)[0])


def _check_same(study: optuna.Study, spec: SweepSpec, space: SearchSpace) -> None:
    now = {_SPACE: space.signature(), _OBJECTIVE: f"{spec.direction} {spec.objective}"}
    for key, value in now.items():
        before = study.user_attrs.get(key)
        if before is None:
            study.set_user_attr(key, value)
        elif before != json.loads(json.dumps(value)):
            what = "search space" if key == _SPACE else "objective"
            raise ConfigError(
                f"{spec.source}: study '{spec.study_name}' was started with another {what} "
                f"({_difference(before, value)}); "
                "choose another hydra.sweeper.study_name, or undo the change"
            )


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict):
        return f"it was {before}, it is {now}"
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(changed)


@contextmanager
def _lock(directory: Path, study_name: str) -> Iterator[None]:
    path = directory / "locks" / f"{study_name.replace('/', '_')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StoreError(
                f"study '{study_name}' is being swept by process {file.read().strip() or 'unknown'}; "
                "wait for it, or stop it first"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield  # the lock goes with the file, however the process ends


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
