"""Enqueued parameters, which a sweep tries first: those of its file, and the best ones of another study."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import TrialState

from besom.errors import ConfigError, one_of
from besom.sweep.space.search_space import Params, SearchSpace
from besom.sweep.spec import SweepSpec, storage_url
from besom.sweep.study.storage import open_storage


def known_good(spec: SweepSpec, space: SearchSpace, directory: Path) -> list[Params]:
    """Return the parameters of `enqueue`, then the best ones of the study that `enqueue_from` names.

    Of the other study, only parameters of this search space are used, and only trials that have any. Raises ConfigError
    when parameters of the file cannot be chosen, or when the storage has no such study or no such complete trial.
    """
    known = [dict(params) for params in spec.search.enqueue]
    for index, params in enumerate(known):
        try:
            space.to_stored(params)
        except ConfigError as error:
            raise ConfigError(f"{spec.source}: hydra.sweeper.enqueue[{index}]: {error}") from error
    return [*known, *_best_of_another(spec, space, directory)]


def _best_of_another(spec: SweepSpec, space: SearchSpace, directory: Path) -> list[Params]:
    name = spec.search.enqueue_from
    if name is None:
        return []
    where = f"{spec.source}: hydra.sweeper.enqueue_from"
    if name == spec.study_name:
        raise ConfigError(f"{where}: '{name}' is this study itself; name another one")
    if spec.storage is None and not (directory / "optuna.db").exists():
        raise ConfigError(f"{where}: there is no study '{name}'; none was swept yet")
    storage = open_storage(spec.storage or storage_url(directory))
    try:
        names = [study.study_name for study in optuna.get_all_study_summaries(storage)]
        if name not in names:
            raise ConfigError(f"{where}: there is no study '{name}'; {one_of(name, names)}")
        other = optuna.load_study(study_name=name, storage=storage)
        best = _best_that_fit(other, space)
    finally:
        storage.remove_session()
    if not best:
        raise ConfigError(f"{where}: study '{name}' has no complete trial with parameters of this space")
    return best


def _best_that_fit(other: optuna.Study, space: SearchSpace) -> list[Params]:
    """Return the parameters of the best trials that have any parameter of this space: the best of all may have none."""
    complete = other.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    fitting = optuna.create_study(directions=other.directions)
    fitting.add_trials([trial for trial in complete if space.from_stored(trial.params)])
    return [space.from_stored(trial.params) for trial in fitting.best_trials]
