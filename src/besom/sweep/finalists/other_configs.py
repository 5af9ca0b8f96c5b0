"""Finalists whose config differs from the sweep's: each is trained again with the recorded config of its run.

A recorded config is not trusted: only targets that ship with Besom, that the sweep's own configs name or that the user
trusts are built. The tracking and the slot are those of the current sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import check, select
from besom.config.messages import explain
from besom.config.targets.trust import FILE, VARIABLE, Trust, user_targets
from besom.errors import ConfigError, RunNotFound, first_few
from besom.reports.read.configs import OF_A_CHOICE, configs_of, differences
from besom.reports.read.summary import Row
from besom.secrets.masks import missing_variables
from besom.sweep.compose import Composer
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.study.config import refers_to_keys_alone
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.trial import WRITTEN_BY_SLOT
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.tags import StudyAttribute, TrialAttribute

_EVALUATION = ("data.", "evaluation.")
_TRAINING_ONLY = ("data.batch_size", "data.eval_batch_size", "data.shuffle_seed", "data.scaling")
"""Keys under the prefixes above that do not change the data on which a model is evaluated."""

_HOW = f"trust: [{{0}}] in {FILE}, or {VARIABLE}={{0}}"
_REMEDY = "start the sweep with that config to train it again"


@dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """The recorded config of a trial, with its number, its overrides, and the targets that may be built."""

    number: int
    config: DictConfig
    overrides: tuple[str, ...]
    trust: Trust


class OtherConfigs:
    """Reads the recorded configs of trials whose config differs from the sweep's, `shared`, which has this number."""

    def __init__(
        self,
        recorder: Recorder,
        book: StudyBook,
        space: SearchSpace,
        composer: Composer,
        *,
        overrides: Mapping[str, Any],
        number: int,
        shared: Mapping[str, Any],
    ) -> None:
        self._recorder = recorder
        self._book = book
        self._sampled = frozenset(key.lstrip("+") for key in space.keys)
        self._overrides = overrides
        self._number = number
        self._shared = {key: str(value) for key, value in shared.items()}
        self._space = space
        self._composer = composer

    @cached_property
    def _own(self) -> list[DictConfig]:
        """The sweep's own configs, one per choice."""
        return [self._composer.compose(params) for params in self._space.examples(at_least_one=True)]

    def concern(self, row: Row) -> bool:
        """Return whether a trial's config differs from the sweep's."""
        return (row.config or 1) != self._number

    def of(self, row: Row) -> OtherConfig:
        """Return the recorded config of a trial. Raises BesomError with the reason why it cannot be trained again."""
        number = row.config or 1
        if changes := self._evaluation_changes(number):
            raise ConfigError(f"config {self._number} judges otherwise ({first_few(changes)}); {_REMEDY}")
        if not row.run_id:
            why = "MLflow has none of it" if self._recorder.persists else "none is read with tracking=none"
            raise RunNotFound(f"its config is kept with its run, and {why}; {_REMEDY}")
        written = {**self._recorder.config(row.run_id), "tracking": {}}
        if missing := missing_variables(written):
            keys, names = ", ".join(dict.fromkeys(missing.values())), " and ".join(missing)
            raise ConfigError(f"{keys}: secrets are not recorded; set {names}")
        trust = self._trust()
        trust.resolve(written)
        trial = self._book.study.get_trials(deepcopy=False)[row.trial]
        config = self._updated(written)
        check(with_values(config, {**self._overrides, "test": True}))
        return OtherConfig(
            number=number,
            config=config,
            overrides=tuple(trial.user_attrs.get(TrialAttribute.OVERRIDES, ())),
            trust=trust,
        )

    def _evaluation_changes(self, number: int) -> list[str]:
        """Return the differences in the evaluation of models, which make their metrics incomparable."""
        before = configs_of(self._book.study.user_attrs).get(number, {})
        return differences(_evaluation_keys(before), _evaluation_keys(self._shared))

    def _trust(self) -> Trust:
        own = dict.fromkeys(target for config in self._own for target in user_targets(_plain(config)))
        trust = Trust.given(how=_HOW)
        return replace(trust, names=(*trust.names, *own))

    def _updated(self, written: Mapping[str, Any]) -> DictConfig:
        """Return a recorded config with its references to the seed, and with the current tracking and slot keys."""
        config = OmegaConf.create(dict(written))
        for key, text in self._book.study.user_attrs.get(StudyAttribute.SEEDED, {}).items():
            if key not in self._sampled and refers_to_keys_alone(text):
                _set_reference(config, key, text)
        own = self._own[0]
        with open_dict(config):
            config.tracking = _plain(own.tracking)
            for key in WRITTEN_BY_SLOT:
                if (value := select(own, key)) is not None:
                    OmegaConf.update(config, key, value)
        OmegaConf.set_struct(config, True)
        return config


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def _evaluation_keys(config: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in config.items() if _is_of_evaluation(key.rpartition(OF_A_CHOICE)[2])}


def _is_of_evaluation(key: str) -> bool:
    training_only = any(f"{key}.".startswith(f"{prefix}.") for prefix in _TRAINING_ONLY)
    return key.startswith(_EVALUATION) and not training_only


def _set_reference(config: DictConfig, key: str, text: str) -> None:
    """Replace a value of a config by a reference to another key, if it resolves to the same value."""
    value = OmegaConf.select(config, key)
    if value is None:
        return
    OmegaConf.update(config, key, text)
    try:
        same = OmegaConf.select(config, key) == value
    except OmegaConfBaseException:
        same = False
    if not same:
        OmegaConf.update(config, key, value)


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a config with other values at some keys. Raises ConfigError naming a key that does not exist."""
    config = config.copy()
    for key, value in values.items():
        try:
            OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error)) from error
    return config
