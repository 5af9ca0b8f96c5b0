"""The study: opened or resumed, asked and told by this process alone.

The sampler is built anew for each trial from the seed and the trial's place in the sequence, so that a resumed
sweep asks what an uninterrupted one would have asked.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from besom.config import mask
from besom.errors import ConfigError, StoreError
from besom.locks import Held, locked
from besom.sweep.space import Params, SearchSpace
from besom.sweep.spec import SweepSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)  # Besom tells of its trials itself

INTERRUPTED = "besom.interrupted"
_SPACE, _OBJECTIVE, _CONFIG = "besom.space", "besom.objective", "besom.config"

_DEFAULT_SAMPLER: Mapping[str, Any] = {
    "_target_": "optuna.samplers.TPESampler",
    # Conditional parameters are modelled together with those they appear with, not one by one.
    "group": True,
    "multivariate": True,
}
# Samplers whose points form one sequence: another seed per trial would tear it apart.
_SEQUENCES = ("GridSampler", "QMCSampler")
# What Optuna imports only when the sampler first needs it: in the middle of a sweep.
_NEEDS: Mapping[str, str] = {"CmaEsSampler": "cmaes"}


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
        self.study.sampler = build_sampler(self._spec, self._position())
        trial = self.study.ask()
        return Asked(trial=trial, params=self._space.sample(trial))

    def _position(self) -> int:
        """How many trials were asked, one that was interrupted and comes again counted once."""
        return sum(
            trial.state is not TrialState.WAITING and not trial.user_attrs.get(INTERRUPTED)
            for trial in self.study.get_trials(deepcopy=False)
        )

    def tell(self, trial: Trial, value: float | None) -> None:
        """Tell a trial's objective value, or None for a failure."""
        self._done += 1
        try:
            if value is None:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, value)
        except RuntimeError:
            # A sampler that has been everywhere asks Optuna to stop, which it allows inside `optimize` alone. The
            # trial is told by then.
            if not self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                raise

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
    with _alone(spec, directory):
        try:
            with locked(directory / "locks" / "creating-optuna", wait=True):  # two at once would tear it
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


def config_changes(study: optuna.Study, config: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was when the study began, in the flattened config that its trials start from.

    The first call for a study remembers the config.
    """
    now = {key: str(value) for key, value in config.items()}
    before = study.user_attrs.get(_CONFIG)
    if before is None:
        study.set_user_attr(_CONFIG, now)
        return []
    keys = sorted({*before, *now})
    return [
        f"{key} was {before.get(key, 'not there')}, is {now.get(key, 'not there')}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


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


def build_sampler(spec: SweepSpec, position: int) -> BaseSampler:
    """Build the sampler that asks for the trial at a place in the sequence.

    Raises ConfigError for a sampler that does not exist or does not take what it was given.
    """
    config = dict(spec.sampler or _DEFAULT_SAMPLER)
    where = f"{spec.source}: hydra.sweeper.sampler"
    try:
        module, _, name = str(config["_target_"]).rpartition(".")
        target = getattr(import_module(module), name)
    except KeyError as error:
        raise ConfigError(f"{where}: has no _target_; name one, such as optuna.samplers.TPESampler") from error
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(name for name in optuna.samplers.__all__ if name.endswith("Sampler") and name[0] != "B")
        raise ConfigError(
            f"{where}: {config['_target_']} does not exist; use optuna.samplers. followed by one of {known}"
        ) from error
    if not issubclass(target, BaseSampler):
        raise ConfigError(f"{where}: {config['_target_']} is not an Optuna sampler; name one of optuna.samplers")
    package = _NEEDS.get(target.__name__)
    if package is not None and find_spec(package) is None:
        raise ConfigError(f"{where}: {config['_target_']} needs a package more: pip install {package}")
    seed = config.pop("seed", None)
    seed = spec.seed if seed is None else int(seed)
    if "seed" in inspect.signature(target).parameters:
        sequence = target.__name__ in _SEQUENCES
        config["seed"] = seed if sequence else _derived_seed(seed, position)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: BaseSampler = instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(f"{where}: {_cause(error)}; see Optuna's page on {config['_target_']}") from error
    return sampler


def _derived_seed(seed: int, position: int) -> int:
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


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
def _alone(spec: SweepSpec, directory: Path) -> Iterator[None]:
    try:
        with locked(directory / "locks" / f"{spec.folder}.lock", wait=False):
            yield
    except Held as error:
        raise StoreError(
            f"study '{spec.study_name}' is being swept by process {error.pid}; wait for it, or stop it first"
        ) from error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
